"""Every kind of model on a real Triton, asked by the client: token vectors, sparse vectors and rerankers of words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from conch_client import Client, InvalidInputError
from conch_export import Options, Overrides, Precision, export, plan
from conch_server import Supervisor

from tests import head_checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

TEXTS = ["a cat", "the quick brown fox " * 9, "größer, 日本語 and 🐚!", "x", "to be or not to be? " * 40] * 3


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kinds")
    return {"splade": head_checkpoints.splade(folder / "splade"), "m3": head_checkpoints.bge_m3(folder / "m3")}


@pytest.fixture(scope="module")
def client(
    checkpoints: dict[str, Path],
    server_settings: Callable[..., Any],
    background: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Client]:
    """A client of a Triton of its own."""
    repository = tmp_path_factory.mktemp("kinds-models")
    overrides: dict[str, Overrides] = {}
    for name, checkpoint in checkpoints.items():
        late_interaction = True if name == "m3" else None
        chosen = Options(str(checkpoint), repository, precision=Precision.FP32, plan=plan(cores=1))
        chosen = replace(chosen, late_interaction=late_interaction, overrides=overrides.get(name, Overrides()))
        export(chosen)
    supervisor = Supervisor(server_settings(model_repository=repository))
    background.run(supervisor.__aenter__())
    with Client(supervisor.grpc_url) as client:
        yield client
    background.run(supervisor.__aexit__(None, None, None))


@torch.inference_mode()
def outputs(checkpoint: Path, head: str, ids: list[int]) -> Any:
    """What transformers' class for that head gives for one text."""
    model = getattr(transformers, f"AutoModel{head}").from_pretrained(checkpoint, attn_implementation="eager").eval()
    return model(input_ids=torch.tensor([ids]))


def tokens(checkpoint: Path, text: str, length: int = 128) -> list[int]:
    tokenizer = head_checkpoints.tokenizer_of(checkpoint)
    tokenizer.enable_truncation(length)
    ids: list[int] = tokenizer.encode(text).ids
    return ids


def test_every_model_says_what_it_is_and_where_it_comes_from(client: Client) -> None:
    told = {info.name: (info.task, info.base, info.dimension) for info in client.models()}
    assert told == {
        "splade": ("sparse", None, 30522),
        "m3": ("embedding", None, 48),
        "m3-sparse": ("sparse", "m3", 30522),
        "m3-tokens": ("multi-vector", "m3", 24),
        "m3-maxsim": ("late-interaction", "m3", None),
    }


def test_sparse_vectors_are_those_of_transformers(client: Client, checkpoints: dict[str, Path]) -> None:
    for text, vector in zip(TEXTS, client.embed_sparse(TEXTS, model="splade"), strict=True):
        logits = outputs(checkpoints["splade"], "ForMaskedLM", tokens(checkpoints["splade"], text)).logits[0]
        expected = torch.log1p(torch.relu(logits)).amax(0).numpy()
        found = np.zeros_like(expected)
        found[vector.indices] = vector.values
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_words_of_a_text_weigh_what_the_layer_says(client: Client, checkpoints: dict[str, Path]) -> None:
    layer = head_checkpoints.layer_of(checkpoints["m3"] / "sparse_linear.safetensors")
    for text, vector in zip(TEXTS, client.embed_sparse(TEXTS, model="m3-sparse"), strict=True):
        ids = tokens(checkpoints["m3"], text)
        with torch.inference_mode():
            numbers = torch.relu(layer(outputs(checkpoints["m3"], "", ids).last_hidden_state[0]))[:, 0].tolist()
        expected: dict[int, float] = {}
        for word, number in zip(ids, numbers, strict=True):
            if word not in {100, 101, 102} and number > 0:
                expected[word] = max(expected.get(word, 0.0), number)
        assert dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True)) == pytest.approx(
            expected, abs=1e-5
        )


def test_token_vectors_go_through_their_layer(client: Client, checkpoints: dict[str, Path]) -> None:
    layer = head_checkpoints.layer_of(checkpoints["m3"] / "colbert_linear.safetensors")
    for text, vectors in zip(TEXTS, client.embed_tokens(TEXTS, model="m3-tokens"), strict=True):
        with torch.inference_mode():
            projected = layer(outputs(checkpoints["m3"], "", tokens(checkpoints["m3"], text)).last_hidden_state[0])
            expected = torch.nn.functional.normalize(projected, dim=1).numpy()
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("call", ["embed_sparse", "embed_tokens"])
def test_an_id_that_no_token_has_is_named_and_harms_no_other(client: Client, call: str) -> None:
    with pytest.raises(InvalidInputError, match=r"refused text\(s\) \[1\]"):
        getattr(client, call)([[101, 2003, 102], [101, 10**6, 102], [101]])
