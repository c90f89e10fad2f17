"""OpenAI's own SDK, unmodified, against the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import openai
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MODEL = "all-minilm-l6-v2"
TEXTS = [
    "A cat sat on the mat.",
    "Wie spät ist es?",
    "def embed(texts): return model(texts)",
    "a longer text that says the same thing again and again " * 20,
]


@pytest.fixture(scope="module")
def sdk(gateway_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def reference(sentence_transformer: Any) -> NDArray[np.float32]:
    """The vectors of sentence-transformers from the original checkpoint."""
    vectors: NDArray[np.float32] = sentence_transformer.encode(TEXTS, normalize_embeddings=True)
    return vectors


def test_vectors_equal_those_of_sentence_transformers(sdk: openai.OpenAI, reference: NDArray[np.float32]) -> None:
    answer = sdk.embeddings.create(model=MODEL, input=TEXTS)

    served = np.array([item.embedding for item in answer.data])
    cosines = (served * reference).sum(axis=1) / np.linalg.norm(served, axis=1)
    assert cosines.min() >= 0.9999


def test_base64_which_the_sdk_asks_for_and_float_agree(sdk: openai.OpenAI) -> None:
    packed = sdk.embeddings.create(model=MODEL, input="some text").data[0].embedding
    numbers = sdk.embeddings.create(model=MODEL, input="some text", encoding_format="float").data[0].embedding

    assert packed == pytest.approx(numbers, abs=1e-6)


def test_usage_and_model_are_told(sdk: openai.OpenAI) -> None:
    answer = sdk.embeddings.create(model=MODEL, input="hello world", user="somebody")

    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == (MODEL, 4, 4)


def test_our_own_fields_pass_through_extra_body(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="tokens"):
        sdk.embeddings.create(model=MODEL, input="long " * 300, extra_body={"truncate": "none"})


def test_quantized_vectors_point_where_the_exact_ones_do(sdk: openai.OpenAI, reference: NDArray[np.float32]) -> None:
    answer = sdk.embeddings.create(model=MODEL, input=TEXTS, extra_body={"embedding_type": "int8"})

    steps = np.array([item.embedding for item in answer.data])
    assert steps.min() >= -127
    assert ((steps * reference).sum(axis=1) / np.linalg.norm(steps, axis=1)).min() >= 0.998


def test_token_vectors_are_read_by_their_shape(sdk: openai.OpenAI) -> None:
    answer = sdk.embeddings.create(model=MODEL, input=["hello world"], extra_body={"vector_type": "late"})

    (item,) = answer.data
    vectors = np.array(item.embedding).reshape(item.shape)  # type: ignore[attr-defined]
    assert vectors.shape == (4, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_models_are_listed_and_described(sdk: openai.OpenAI) -> None:
    assert MODEL in [model.id for model in sdk.models.list()]
    assert sdk.models.retrieve(MODEL).owned_by == "conch"


@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        pytest.param({"input": ""}, openai.BadRequestError, "invalid_value", id="empty text"),
        pytest.param({"input": "a", "dimensions": -1}, openai.BadRequestError, "invalid_value", id="bad dimensions"),
        pytest.param({"input": "a", "model": "gpt-9"}, openai.NotFoundError, "model_not_found", id="unknown model"),
        pytest.param({"input": 7}, openai.UnprocessableEntityError, "wrong_type", id="wrong type"),
        pytest.param({"input": "x" * 9_000_000}, openai.APIStatusError, "body_too_large", id="too large"),
    ],
)
def test_errors_become_the_sdks_classes(
    sdk: openai.OpenAI, fields: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        sdk.embeddings.create(**{"model": MODEL, **fields})

    assert (caught.value.code, caught.value.type) == (code, "invalid_request_error")
    assert caught.value.request_id
