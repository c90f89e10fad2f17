"""No row without tokens leaves the client, whichever way it could come about; the error names the text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_client import InvalidInputError
from conch_client._tokenization.rows import Rows
from conch_client.testing import FakeModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

if TYPE_CHECKING:
    from conch_client.testing import FakeServer

    from tests.unit.client.conftest import Both

NOTHING = ["", "\u0000", " \u0000\n"]
"""Texts of which the tokenizer below makes no token."""
RULES = {
    "query_marker": 1,
    "document_marker": 2,
    "query_length": 8,
    "document_length": 16,
    "filler": 3,
    "filler_seen": False,
    "skipped": [],
}


def bare_tokenizer_json() -> bytes:
    """A token for each letter and none for anything else, special tokens included; control characters are dropped."""
    letters = {letter: number for number, letter in enumerate("[]abcdefghijklmnopqrstuvwxyz")}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return str(tokenizer.to_str()).encode()


def model(task: str, **parameters: str) -> FakeModel:
    return FakeModel(task=task, parameters=parameters, tokenizer_json=bare_tokenizer_json())


@pytest.fixture
def bare(server: FakeServer) -> FakeServer:
    server.models = {
        "embed": model("embedding"),
        "tokens": model("multi-vector"),
        "sparse": model("sparse"),
        "pairs": model("cross-encoder"),
        "framed": model("cross-encoder", pair_template="{query} {document}"),
        "late": model("late-interaction"),
        "colbert": model("late-interaction", interaction=json.dumps(RULES)),
    }
    return server


def rows_received(server: FakeServer) -> list[tuple[int, ...]]:
    return [tuple(r.inputs[0].shape) for r in server.received if r.inputs[0].name == "input_ids"]


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("call", ["embed", "embed_tokens", "embed_sparse"])
async def test_a_text_without_tokens_is_named(client: Both, bare: FakeServer, call: str, nothing: str) -> None:
    name = {"embed": "embed", "embed_tokens": "tokens", "embed_sparse": "sparse"}[call]
    with pytest.raises(InvalidInputError, match=r"texts\[1\] has no token"):
        await getattr(client, call)(["fine", nothing], model=name)
    assert rows_received(bare) == []


@pytest.mark.parametrize("name", ["embed", "tokens", "sparse"])
async def test_ids_that_are_none_are_named(client: Both, bare: FakeServer, name: str) -> None:
    call = {"embed": "embed", "tokens": "embed_tokens", "sparse": "embed_sparse"}[name]
    empties: list[Any] = [[], (), np.array([], np.int64)]
    for empty in empties:
        with pytest.raises(InvalidInputError, match=r"texts\[2\] has no token"):
            await getattr(client, call)([[1], [2, 3], empty], model=name)
    assert rows_received(bare) == []


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("name", ["pairs", "framed"])
async def test_a_pair_without_tokens_is_named(client: Both, bare: FakeServer, name: str, nothing: str) -> None:
    with pytest.raises(InvalidInputError, match=r"documents\[1\] with the query has no token"):
        await client.rerank(nothing, ["fine", nothing], model=name)
    assert rows_received(bare) == []


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("name", ["late", "colbert"])
async def test_a_query_or_a_document_without_tokens_is_named(
    client: Both, bare: FakeServer, name: str, nothing: str
) -> None:
    with pytest.raises(InvalidInputError, match="query has no token"):
        await client.rerank(nothing, ["fine"], model=name)
    with pytest.raises(InvalidInputError, match=r"documents\[1\] has no token"):
        await client.rerank("fine", ["fine", nothing], model=name)
    assert rows_received(bare) == []


async def test_what_has_tokens_is_still_answered(client: Both, bare: FakeServer) -> None:
    assert len(await client.rerank("", ["fine"], model="pairs")) == 1
    assert len(await client.rerank("", ["fine"], model="framed")) == 1
    assert all(0 not in shape for shape in rows_received(bare))


@pytest.mark.parametrize("rows", [[[]], [[1], []], [[], [1]]], ids=str)
def test_rows_cannot_be_made_with_an_empty_one(rows: list[Any]) -> None:
    empty = rows.index([])
    with pytest.raises(InvalidInputError, match=rf"texts\[{empty}\] has no token") as raised:
        Rows.of(rows)
    assert raised.value.indices == (empty,)
