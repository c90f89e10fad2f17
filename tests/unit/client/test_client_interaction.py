"""Late interaction with rules of its own: what is sent for queries and documents, and what comes back of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_client import InvalidInputError
from conch_client.testing import FakeModel, fake_tokenizer_json
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from conch_client.testing import FakeServer

TOKENIZER = Tokenizer.from_str(fake_tokenizer_json().decode())
CLS, SEP = (TOKENIZER.token_to_id(name) for name in ("[CLS]", "[SEP]"))
COMMA, QUERY, DOCUMENT, FILLER = (TOKENIZER.token_to_id(letter) for letter in ",~^*")
RULES = {
    "query_marker": QUERY,
    "document_marker": DOCUMENT,
    "query_length": 8,
    "document_length": 12,
    "filler": FILLER,
    "filler_seen": False,
    "skipped": [COMMA],
}


def ids(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False).ids)


@pytest.fixture(autouse=True)
def _models(server: FakeServer) -> None:
    told = {"interaction": json.dumps(RULES), "max_length": "12", "prompts": '{"query": "", "document": ""}'}
    server.models["tokens"] = FakeModel(task="multi-vector", parameters=told)
    server.models["tokens-maxsim"] = FakeModel(task="late-interaction", parameters=told)


def sent(server: FakeServer, model: str) -> list[list[list[int]]]:
    """The ids and the mask of the last request to a model, row by row."""
    request = next(r for r in reversed(server.received) if r.model_name == model)
    matrices = [
        np.frombuffer(content, "<i8").reshape(tuple(tensor.shape))
        for tensor, content in zip(request.inputs, request.raw_input_contents, strict=True)
    ]
    return [matrix.tolist() for matrix in matrices[:2]]


async def test_a_query_is_marked_and_filled_with_tokens_that_no_other_attends_to(
    client: Any, server: FakeServer
) -> None:
    await client.embed_tokens(["ab"], model="tokens", prompt_name="query")
    (row,), (mask,) = sent(server, "tokens")
    assert row == [CLS, QUERY, *ids("ab"), SEP, FILLER, FILLER, FILLER]
    assert mask == [1, 1, 1, 1, 1, 2, 2, 2]


async def test_fillers_that_are_attended_to_are_tokens_like_others(client: Any, server: FakeServer) -> None:
    server.models["tokens"].parameters["interaction"] = json.dumps({**RULES, "filler_seen": True})
    await client.embed_tokens(["ab"], model="tokens", prompt_name="query")
    assert sent(server, "tokens")[1] == [[1] * 8]


async def test_a_text_that_is_no_query_is_a_document(client: Any, server: FakeServer) -> None:
    await client.embed_tokens(["ab"], model="tokens")
    assert sent(server, "tokens") == [[[CLS, DOCUMENT, *ids("ab"), SEP]], [[1] * 5]]


@pytest.mark.parametrize(("prompt_name", "length"), [("query", 8), ("document", 12)])
async def test_queries_and_documents_have_lengths_of_their_own(client: Any, prompt_name: str, length: int) -> None:
    (row,) = await client.tokenize(["a" * 50], model="tokens", prompt_name=prompt_name)
    assert len(row) == length
    assert row[-1] == SEP
    with pytest.raises(InvalidInputError, match=r"texts\[0\] has 52 tokens"):
        await client.embed_tokens(["a" * 50], model="tokens", prompt_name=prompt_name, truncate="none")


async def test_punctuation_of_documents_has_no_vector(client: Any) -> None:
    (found,) = await client.embed_tokens(["a,b"], model="tokens")
    assert len(found) == 5
    (query,) = await client.embed_tokens(["a,b"], model="tokens", prompt_name="query")
    assert len(query) == 8


async def test_queries_keep_their_punctuation_where_no_marker_tells_them(client: Any, server: FakeServer) -> None:
    rules = {**RULES, "query_marker": None, "document_marker": None, "filler": None}
    server.models["tokens"].parameters["interaction"] = json.dumps(rules)
    (query,) = await client.embed_tokens(["a,b"], model="tokens", prompt_name="query")
    (document,) = await client.embed_tokens(["a,b"], model="tokens")
    assert (len(query), len(document)) == (5, 4)


@pytest.mark.parametrize("prompt_name", ["query", "document"])
async def test_ids_of_tokenize_are_computed_as_the_text_is(client: Any, server: FakeServer, prompt_name: str) -> None:
    expected = await client.embed_tokens(["a,b", "c"], model="tokens", prompt_name=prompt_name)
    of_text = sent(server, "tokens")
    rows = await client.tokenize(["a,b", "c"], model="tokens", prompt_name=prompt_name)
    found = await client.embed_tokens(rows, model="tokens")
    assert sent(server, "tokens") == of_text
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


async def test_reranking_sends_the_query_as_one_and_documents_as_such(client: Any, server: FakeServer) -> None:
    await client.rerank("ab", ["a", "bc"], model="tokens-maxsim")
    rows, masks = sent(server, "tokens-maxsim")
    assert rows[0] == [CLS, QUERY, *ids("ab"), SEP, FILLER, FILLER, FILLER]
    assert {tuple(row[:2]) for row in rows[1:]} == {(CLS, DOCUMENT)}
    assert masks[0] == [1, 1, 1, 1, 1, 2, 2, 2]
    assert {number for mask in masks[1:] for number in mask} == {0, 1}


async def test_a_document_that_is_too_long_to_rerank_is_named(client: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"documents\[1\] has 52 tokens"):
        await client.rerank("ab", ["a", "b" * 50], model="tokens-maxsim", truncate="none")
    with pytest.raises(InvalidInputError, match="query has 52 tokens"):
        await client.rerank("a" * 50, ["a"], model="tokens-maxsim", truncate="none")
