"""Callers learn which of their inputs lost tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conch_client.testing import FakeModel

if TYPE_CHECKING:
    from conch_client.testing import FakeServer

SHORT, LONG = "ab", "abcdefghij"
SIX = {"max_length": "6"}  # four letters and two special tokens


@pytest.mark.parametrize("truncate", ["end", "start"])
async def test_texts_that_lost_tokens_are_named(client: Any, server: FakeServer, truncate: str) -> None:
    server.models = {"letters": FakeModel(parameters=SIX)}
    ids = await client.tokenize([SHORT, LONG, "abcd", LONG], truncate=truncate)
    assert ids.truncated == (1, 3)


async def test_characters_that_are_not_read_count(client: Any, server: FakeServer) -> None:
    server.models = {"letters": FakeModel(parameters={"max_characters": "3"})}
    assert (await client.tokenize([SHORT, "abcd"])).truncated == (1,)


async def test_ids_are_never_cut(client: Any) -> None:
    assert (await client.tokenize([[5, 6, 7]])).truncated == ()


@pytest.mark.parametrize(
    ("task", "query", "truncated"),
    [
        pytest.param("cross-encoder", "a", (1,), id="pairs"),
        pytest.param("late-interaction", "a", (1,), id="documents"),
        pytest.param("late-interaction", LONG, (0, 1), id="a-query-is-missed-by-every-document"),
    ],
)
async def test_documents_that_lost_tokens_are_named(
    client: Any, server: FakeServer, task: str, query: str, truncated: tuple[int, ...]
) -> None:
    server.models = {"ranks": FakeModel(task=task, parameters=SIX)}
    assert (await client.rerank(query, ["b", LONG])).truncated == truncated


async def test_classified_inputs_that_lost_tokens_are_named(client: Any, server: FakeServer) -> None:
    server.models = {"classes": FakeModel(task="classification", parameters=SIX)}
    inputs = [LONG, ("a", LONG), SHORT, ("a", "b"), (LONG, "b"), LONG]
    assert (await client.classify(inputs)).truncated == (0, 1, 4, 5)
