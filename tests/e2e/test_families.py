"""A checkpoint of every encoder family, and of none, exported and served: vectors through the gateway are its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import transformers
from conch_client import Client
from conch_export.verification.plain import PlainEncoder

from tests.abacus.modeling_abacus import AbacusModel
from tests.encoders import read_encoder
from tests.exports import export_once, options_of
from tests.hub_checkpoints import ADAPTERS
from tests.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conch_export.model.network import Encoder
    from numpy.typing import NDArray

    from tests.checkpoints import Checkpoints

FAMILIES = ["bert", "xlm_roberta", "mpnet", "nomic_bert", "jina_bert", "gte", "modernbert", "qwen3"]
FAMILIES += ["qwen2", "llama", "mistral", "distilbert", "electra", "camembert", "gemma3", "nomic_moe"]
FAMILIES += ["deberta_v2", "t5", "jina_v3", "gte_multilingual", "eurobert", "llama_bidirec", "qwen2_5_vl"]
WITHOUT = {"roformer": False, "abacus": True}  # optimum converts them; whether their own code must be run for that
FIRST, LAST = ["xlm_roberta"], ["qwen3", "qwen2", "mistral"]  # what is pooled; the others take the mean
TEXTS = ["a cat sat on the mat", "x", "the quick brown fox jumps over the lazy dog " * 30, "größer, 日本語 and 🐚"]


@pytest.fixture(scope="module")
def served(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """`conch serve` over one model of each family, and those of none, by its name."""
    repository: Path = tmp_path_factory.mktemp("families")
    with pytest.MonkeyPatch.context() as patch:
        # transformers copies code before it runs it, by default below the user's home.
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        for kind in (*FAMILIES, *WITHOUT):
            trusted = WITHOUT.get(kind, False)
            export_once(options_of(checkpoints, kind, repository, trust_remote_code=trusted))
    with Serving(repository, tmp_path_factory.mktemp("serving")) as serving:
        yield serving


def expected(encoder: Encoder, ids: list[list[int]], family: str) -> NDArray[np.float32]:
    compute = PlainEncoder(encoder)
    tokens = [compute(row, [0] * len(row)).numpy() for row in ids]
    pooled = np.stack(
        [each[0] if family in FIRST else each[-1] if family in LAST else each.mean(axis=0) for each in tokens]
    )
    return np.asarray(pooled / np.linalg.norm(pooled, axis=1, keepdims=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_served_with_its_own_vectors(served: Serving, checkpoints: Checkpoints, family: str) -> None:
    model = f"{family}-fp32"
    with Client(served.grpc_url) as client:
        ids = client.tokenize(TEXTS, model=model)
        vectors = client.embed(TEXTS, model=model)
        limit = client.model(model).max_length
    assert max(map(len, ids)) >= min(limit, 257)  # longer than one tile of attention where the model takes it
    wanted = expected(read_encoder(getattr(checkpoints, family)(), ADAPTERS.get(family, "")), ids, family)
    np.testing.assert_allclose(vectors, wanted, rtol=0, atol=1e-5)

    answer = served.http.post("/v1/embeddings", json={"model": model, "input": TEXTS}).json()
    np.testing.assert_allclose([item["embedding"] for item in answer["data"]], wanted, rtol=0, atol=1e-5)
    assert answer["usage"]["prompt_tokens"] == sum(map(len, ids))


@pytest.mark.parametrize("name", WITHOUT)
def test_a_model_without_a_family_is_served_with_its_own_vectors(
    served: Serving, checkpoints: Checkpoints, name: str
) -> None:
    folder = getattr(checkpoints, name)()
    model = AbacusModel.from_pretrained(folder) if WITHOUT[name] else transformers.AutoModel.from_pretrained(folder)
    with Client(served.grpc_url) as client:
        ids = client.tokenize(TEXTS, model=f"{name}-fp32")
    with torch.inference_mode():
        rows = [torch.tensor([row]) for row in ids]
        means = [model(row, torch.ones_like(row)).last_hidden_state[0].mean(0) for row in rows]
    wanted = torch.nn.functional.normalize(torch.stack(means)).numpy()
    answer = served.http.post("/v1/embeddings", json={"model": f"{name}-fp32", "input": TEXTS}).json()
    np.testing.assert_allclose([item["embedding"] for item in answer["data"]], wanted, rtol=0, atol=1e-5)
