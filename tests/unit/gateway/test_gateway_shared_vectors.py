"""Vectors of long lists in Redis: each part of a list has its own time, so that none marks Redis as away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from conch_gateway.inference.cache import Entry
from conch_gateway.shared import store
from conch_gateway.shared.vectors import RedisVectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

KEYS = [number.to_bytes(4, "big") for number in range(1000)]
ENTRIES = {key: Entry(np.full(2, number, np.float32), number) for number, key in enumerate(KEYS)}


class StandIn:
    """Redis in memory. Its `mget` and its pipelines answer so many times, and then no more."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.under_way = self.most_under_way = 0
        self.values: dict[str, bytes] = {}

    async def mget(self, names: Sequence[str]) -> list[bytes | None]:
        await self._answer()
        return [self.values.get(name) for name in names]

    def pipeline(self, *, transaction: bool) -> Pipeline:
        assert not transaction
        return Pipeline(self)

    async def _answer(self) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0)
        self.answers -= 1
        if self.answers < 0:
            raise ConnectionError("the connection was lost")
        self.under_way -= 1


class Pipeline:
    def __init__(self, redis: StandIn) -> None:
        self._redis = redis
        self._values: dict[str, bytes] = {}

    async def __aenter__(self) -> Pipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def set(self, name: str, value: bytes, *, ex: int) -> None:
        assert ex
        self._values[name] = value

    async def execute(self) -> None:
        await self._redis._answer()
        self._redis.values |= self._values


def vectors_in(redis: StandIn) -> RedisVectors:
    return RedisVectors(cast("Redis", redis), "conch", 60)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis answers in time, however busy the machine is."""
    monkeypatch.setattr(store, "PATIENCE_S", 30.0)


async def test_what_was_found_of_a_long_list_is_kept_when_redis_gives_no_more_answers() -> None:
    redis = StandIn(10**6)
    vectors = vectors_in(redis)
    vectors.keep(ENTRIES)
    await vectors.writing.finish()
    redis.answers = 2
    found = await vectors.find(KEYS)
    there = [entry.tokens for entry in found if entry is not None]

    assert len(found) == len(KEYS)
    assert there == list(range(256))
    assert not vectors.reading.up
    assert vectors.writing.up


async def test_parts_of_a_long_list_do_not_wait_for_each_other() -> None:
    redis = StandIn(10**6)
    vectors = vectors_in(redis)
    vectors.keep(ENTRIES)
    await vectors.writing.finish()
    found: Any = await vectors.find(KEYS)

    assert [entry.tokens for entry in found] == list(range(1000))
    assert redis.most_under_way == 1
