"""What ``embed_chunks`` promises: a vector for each chunk of one document, which is sent as one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_client import InvalidInputError
from conch_client.testing import FakeModel, FakeServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TENSORS = ("input_ids", "attention_mask", "chunk_ends")
CHUNKS = ["ab ", "größe", " of x", "é", "z"]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer({"letters": FakeModel(), "chunks": FakeModel(task="late-chunking", inputs=TENSORS)}) as server:
        yield server


def sent(server: FakeServer) -> dict[str, list[Any]]:
    """The tensors of the last request, by name."""
    request = server.received[-1]
    return {
        tensor.name: np.frombuffer(content, "<i8").reshape(tuple(tensor.shape)).tolist()
        for tensor, content in zip(request.inputs, request.raw_input_contents, strict=True)
    }


async def test_a_document_is_one_row_of_the_joined_text(client: Any, server: FakeServer) -> None:
    vectors, tokens = await client.embed_chunks(CHUNKS)
    assert vectors.shape == (len(CHUNKS), 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    tensors = sent(server)
    assert tokens == len(tensors["input_ids"][0])
    assert tensors["input_ids"] == await client.tokenize(["".join(CHUNKS)], model="chunks")
    # A byte is a token here: one first token, then 3, 7, 5, 2 and 1, and the last token.
    assert tensors["chunk_ends"] == [[4, 11, 16, 18, 20]]


async def test_a_prompt_belongs_to_the_first_chunk(client: Any, server: FakeServer) -> None:
    await client.embed_chunks(["ab", "c"], prompt="xyz")
    assert sent(server)["chunk_ends"] == [[6, 8]]


async def test_one_chunk_is_the_text(client: Any) -> None:
    np.testing.assert_array_equal((await client.embed_chunks(["abc"])).vectors, await client.embed(["abc"]))


async def test_vectors_are_cut_and_scaled_as_those_of_texts(connect: Callable[..., Any], server: FakeServer) -> None:
    server.models["chunks"].parameters.update({"matryoshka_dimensions": "[4, 8]", "normalize": "false"})
    client = connect()
    raw, _ = await client.embed_chunks(CHUNKS, normalize=False)
    short, _ = await client.embed_chunks(CHUNKS, dimensions=4)
    assert np.linalg.norm(raw, axis=1).max() > 2
    np.testing.assert_allclose(short, raw[:, :4] / np.linalg.norm(raw[:, :4], axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("chunks", "message", "indices"),
    [
        ([], "chunks is empty", ()),
        ("ab", "chunks must be a list", ()),
        (["a", b"b"], r"chunks\[1\] must be a str", (1,)),
        (["a", "", "b"], r"chunks\[1\] has no token of its own; join it with a neighbour", (1,)),
        (["", "a"], r"chunks\[0\] has no token of its own", (0,)),
        (["a", ""], r"chunks\[1\] has no token of its own", (1,)),
        (["a" * 40, "b" * 40], "the chunks have more than the 64 tokens together that the model takes", ()),
        (["word " * 40_000, "b" * 40], "the chunks have more than the 64 tokens together", ()),
    ],
    ids=range(8),
)
async def test_what_is_no_document_in_chunks_is_refused(
    client: Any, chunks: Any, message: str, indices: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        await client.embed_chunks(chunks)
    assert caught.value.indices == indices
