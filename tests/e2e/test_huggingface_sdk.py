"""Hugging Face's own client, unmodified, against the gateway: it speaks as text-embeddings-inference does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from conch_client import Client
from huggingface_hub import InferenceClient, configure_http_backend, constants
from huggingface_hub.errors import HfHubHTTPError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.serving import Serving

TEXTS = ["A cat sat on the mat.", "Wie spät ist es?"]


@pytest.fixture(autouse=True, scope="module")
def online() -> Iterator[None]:
    """The tests keep its hub client offline, which would keep it from the gateway too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        configure_http_backend()  # which forgets connections that were made before
        yield
    configure_http_backend()


@pytest.fixture(scope="module")
def own(triton: Serving) -> Iterator[Client]:
    with Client(triton.grpc_url) as client:
        yield client


@pytest.mark.parametrize("path", ["", "/embed"], ids=["root", "embed"])
def test_features_are_the_vectors_of_the_model(gateway_url: str, own: Client, path: str) -> None:
    vectors = InferenceClient(f"{gateway_url}{path}").feature_extraction(TEXTS)  # type: ignore[arg-type]

    assert np.allclose(vectors, own.embed(TEXTS), atol=1e-6)


@pytest.mark.parametrize("path", ["", "/similarity"], ids=["root", "similarity"])
def test_similarities_are_cosines(gateway_url: str, own: Client, path: str) -> None:
    told = InferenceClient(f"{gateway_url}{path}").sentence_similarity(TEXTS[0], other_sentences=TEXTS)

    assert told == pytest.approx((own.embed(TEXTS) @ own.embed(TEXTS[:1])[0]).tolist(), abs=1e-5)


def test_its_options_reach_the_model(gateway_url: str) -> None:
    with pytest.raises(HfHubHTTPError, match="tokens"):
        InferenceClient(gateway_url).feature_extraction("long " * 300, truncate=False)


def test_errors_name_the_fix(gateway_url: str) -> None:
    with pytest.raises(HfHubHTTPError, match="send some text"):
        InferenceClient(gateway_url).feature_extraction("")
