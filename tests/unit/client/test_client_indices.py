"""An error about inputs has their indices, so that a caller who passed on a part of a list can tell which they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conch_client import InvalidInputError
from conch_client.testing import FakeModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_client.testing import FakeServer

LONG = "word " * 400
LONE_SURROGATE = "\ud800"


@pytest.mark.parametrize(
    ("texts", "indices"),
    [
        (["a", "b", 3], (2,)),
        (["a", LONE_SURROGATE], (1,)),
        (["a", "b", LONG], (2,)),
        ([[5], [6, -1]], (1,)),
        ([[5], "text"], (1,)),
        ([[5], []], (1,)),
        ([[5], [5] * 400], (1,)),
        ([[5], [400], [6], [400]], (1, 3)),
    ],
    ids=["no text", "surrogate", "too long", "no id", "mixture", "empty", "too many ids", "outside the vocabulary"],
)
async def test_an_error_about_texts_has_their_indices(client: Any, texts: Sequence[Any], indices: tuple[int]) -> None:
    with pytest.raises(InvalidInputError) as raised:
        await client.embed(texts, truncate="none")
    assert raised.value.indices == indices
    assert str(list(indices)) in str(raised.value)


@pytest.mark.parametrize("model", ["overlap", "pairs"])
@pytest.mark.parametrize("document", [3, LONE_SURROGATE, LONG], ids=["no text", "surrogate", "too long"])
async def test_an_error_about_documents_has_their_indices(client: Any, model: str, document: Any) -> None:
    with pytest.raises(InvalidInputError) as raised:
        await client.rerank("query", ["fine", document], model=model, truncate="none")
    assert raised.value.indices == (1,)
    moved = raised.value.moved([4, 7])
    assert moved.indices == (7,)
    assert str(moved) == str(raised.value).replace("documents[1]", "documents[7]")


async def test_documents_that_the_server_refuses_have_their_indices(client: Any, server: FakeServer) -> None:
    server.models["wary"] = FakeModel(task="cross-encoder", refused_token=(await client.tokenize(["z"]))[0][1])
    with pytest.raises(InvalidInputError, match=r"refused documents \[1, 2\]") as raised:
        await client.rerank("query", ["fine", "zebra", "zoo"], model="wary")
    assert raised.value.indices == (1, 2)


@pytest.mark.parametrize("call", [{"texts": ["a"], "prompt": "", "prompt_name": "x"}, {"texts": []}], ids=str)
async def test_an_error_about_no_item_has_none(client: Any, call: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as raised:
        await client.embed(**call)
    assert raised.value.indices == ()
