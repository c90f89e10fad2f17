"""Texts that were computed before: once within a request, and once for all where there is a cache."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_client import InvalidInputError
from conch_contract import space_of
from conch_gateway.errors import CapacityError
from conch_gateway.inference.cache import VectorCache
from conch_gateway.jobs import Answer, EmbeddingJob
from conch_gateway.scheduling.admission import Backlog

if TYPE_CHECKING:
    import httpx
    from numpy.typing import NDArray

    from tests.unit.gateway.conftest import Serve, StandIn

URL = "/v1/embeddings"


async def embedded(http: httpx.AsyncClient, texts: list[str], **fields: Any) -> tuple[list[list[float]], int]:
    response = await http.post(URL, json={"input": texts, **fields})
    assert response.status_code == 200, response.text
    answer = response.json()
    return [item["embedding"] for item in answer["data"]], answer["usage"]["total_tokens"]


def computed(client: StandIn) -> int:
    return sum(len(texts) for texts in client.embedded)


async def test_a_text_that_is_sent_twice_is_computed_once_and_answered_twice(
    http: httpx.AsyncClient, client: StandIn
) -> None:
    vectors, tokens = await embedded(http, ["ab", "c", "ab"])

    assert (computed(client), tokens) == (2, 4 + 3 + 4)
    assert vectors[0] == vectors[2] != vectors[1]


async def test_a_caller_with_much_in_flight_gets_what_is_remembered(
    http_with: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(*_: object) -> None:
        raise CapacityError("much is in flight", 1.0)

    async with http_with(cache_mb=1) as http:
        first = await embedded(http, ["ab"])
        monkeypatch.setattr(Backlog, "check", check)

        assert await embedded(http, ["ab"]) == first
        assert (await http.post(URL, json={"input": "new"})).status_code == 429


async def test_without_a_cache_nothing_is_remembered(http: httpx.AsyncClient, client: StandIn) -> None:
    await embedded(http, ["ab"])
    await embedded(http, ["ab"])

    assert computed(client) == 2


async def test_with_a_cache_only_new_texts_are_computed(http_with: Serve, client: StandIn) -> None:
    async with http_with(cache_mb=1) as http:
        first = await embedded(http, ["ab", "c"])
        second = await embedded(http, ["c", "new", "ab"])
        third = await embedded(http, ["ab", "c"])
        exposition = (await http.get("/metrics")).text

    assert computed(client) == 3
    assert first == third
    assert (second[0][2], second[0][0]) == tuple(first[0])
    assert second[1] == 3 + 5 + 4
    assert 'conch_gateway_cache_texts_total{model="letters",result="hit"} 4.0' in exposition
    assert 'conch_gateway_cache_texts_total{model="letters",result="miss"} 3.0' in exposition


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"dimensions": 4}, id="dimensions"),
        pytest.param({"prompt_name": "query"}, id="prompt"),
        pytest.param({"truncate": "start"}, id="truncation"),
    ],
)
async def test_what_a_vector_depends_on_keeps_entries_apart(
    http_with: Serve, client: StandIn, other: dict[str, Any]
) -> None:
    client.served[0] = replace(client.served[0], matryoshka_dimensions=(4,))
    async with http_with(cache_mb=1) as http:
        await embedded(http, ["ab"])
        await embedded(http, ["ab"], **other)

    assert computed(client) == 2


async def test_dialects_that_say_the_same_in_other_words_share_entries(http_with: Serve, client: StandIn) -> None:
    async with http_with(cache_mb=1) as http:
        (vector,), _ = await embedded(http, ["ab"])
        answer = await http.post("/api/embed", json={"model": "letters", "input": "ab"})  # states truncation

    assert (computed(client), answer.json()["embeddings"]) == (1, [vector])


async def test_who_expects_a_space_shares_entries_with_who_does_not(http_with: Serve, client: StandIn) -> None:
    client.served[0] = replace(client.served[0], checkpoint_sha256="1" * 64)
    async with http_with(cache_mb=1) as http:
        first = await embedded(http, ["ab"])
        second = await embedded(http, ["ab"], expect_space=space_of(client.served[0]))

    assert (computed(client), second) == (1, first)


async def test_a_model_that_was_deployed_anew_is_asked_again(http_with: Serve, client: StandIn) -> None:
    async with http_with(cache_mb=1) as http:
        await embedded(http, ["ab"])
        client.served[0] = replace(client.served[0], weights_sha256="2" * 64)
        await embedded(http, ["ab"])

    assert computed(client) == 2


async def test_who_misses_the_same_text_at_once_gets_the_same_answer(http_with: Serve, client: StandIn) -> None:
    client.gate = asyncio.Event()
    async with http_with(cache_mb=1) as http:
        asking = [asyncio.create_task(embedded(http, ["ab", text])) for text in "cdef"]
        await client.entered.wait()
        client.gate.set()
        answers = await asyncio.gather(*asking)

    assert len({tuple(vectors[0]) for vectors, _ in answers}) == 1
    assert {tokens for _, tokens in answers} == {7}


async def test_a_text_that_is_refused_is_named_by_its_place_among_those_given(
    http_with: Serve, client: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[list[str]] = []
    async with http_with(cache_mb=1) as http:
        await embedded(http, ["ab"])

        async def refuse(texts: list[str], **_: Any) -> None:
            refused.append(texts)
            raise InvalidInputError(f"texts[{texts.index('bad')}] is too long", [texts.index("bad")])

        monkeypatch.setattr(client, "tokenize", refuse)
        response = await http.post(URL, json={"input": ["ab", "ab", "bad"]})

    assert "texts[2]" in response.text
    assert refused == [["bad"]]


async def completed(cache: VectorCache, text: str, vector: NDArray[np.float32]) -> Answer[NDArray[np.float32]]:
    """The answer for one text, whose vector is computed where it is not remembered."""

    async def compute(_: EmbeddingJob) -> Answer[NDArray[np.float32]]:
        return Answer(vector, 3, [3])

    return await cache.complete(EmbeddingJob([text]), "source", compute)


async def test_it_holds_no_more_than_it_may_and_forgets_what_was_used_least_recently() -> None:
    cache = VectorCache(10_000)
    for number in range(50):
        await completed(cache, str(number), np.full((1, 256), number, np.float32))
        await completed(cache, "0", np.zeros((1, 256), np.float32))

    assert cache.size_bytes <= 10_000
    assert [(await completed(cache, text, np.zeros((1, 256), np.float32))).cache_hits for text in ("0", "49", "1")] == [
        1,
        1,
        0,
    ]


async def test_a_vector_larger_than_the_cache_is_answered_and_not_kept() -> None:
    cache = VectorCache(1_000)
    answer = await completed(cache, "a", np.ones((1, 1024), np.float32))

    assert (answer.given.shape, answer.tokens, cache.size_bytes) == ((1, 1024), 3, 0)
