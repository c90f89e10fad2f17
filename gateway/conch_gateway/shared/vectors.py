"""Vectors that any of the gateways has computed: the entries of `inference.cache` in Redis.

An entry's key is the hash of its text and of all else that the vector depends on, so Redis holds no text. Its value is
the number of tokens and of the vector's numbers, then these, all in little-endian bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from struct import Struct

import numpy as np
from redis.asyncio import Redis

from conch_gateway.inference.cache import Entry
from conch_gateway.shared.store import Link

_HEAD = Struct("<II")
_AT_ONCE = 128  # entries, so that other requests go on in between


class RedisVectors:
    """Vectors that all gateways with one Redis and one prefix find; see `inference.cache.SharedVectors`."""

    def __init__(self, redis: Redis, prefix: str, ttl_s: int) -> None:
        self.reading = Link(redis, "cached vectors", "vectors that other gateways have computed are not found")
        self.writing = Link(redis, "caching vectors", "other gateways do not find what this one computes")
        self._redis = redis
        self._prefix = prefix
        self._ttl_s = ttl_s

    async def find(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Return the entry of each key; none from where on Redis gives no answer."""
        found: list[Entry | None] = []
        for begin in range(0, len(keys), _AT_ONCE):
            # One call each: together, those of a long list would take too long, and Redis would seem to be away.
            some = await self.reading.ask(partial(self._read, keys[begin : begin + _AT_ONCE]))
            if some is None:
                break
            found += some
        return found + [None] * (len(keys) - len(found))

    def keep(self, entries: Mapping[bytes, Entry]) -> None:
        """Store entries, soon."""
        pairs = list(entries.items())
        parts = [dict(pairs[begin : begin + _AT_ONCE]) for begin in range(0, len(pairs), _AT_ONCE)]
        self.writing.tell(*(partial(self._write, part) for part in parts))

    async def _read(self, keys: Sequence[bytes]) -> list[Entry | None]:
        values = await self._redis.mget([self._name(key) for key in keys])
        return [_unpacked(value) if isinstance(value, bytes) else None for value in values]

    async def _write(self, entries: Mapping[bytes, Entry]) -> None:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key, entry in entries.items():
                pipeline.set(self._name(key), _packed(entry), ex=self._ttl_s)
            await pipeline.execute()

    def _name(self, key: bytes) -> str:
        return f"{self._prefix}:vector:{key.hex()}"


def _packed(entry: Entry) -> bytes:
    return _HEAD.pack(entry.tokens, len(entry.vector)) + entry.vector.astype("<f4").tobytes()


def _unpacked(value: bytes) -> Entry | None:
    """Return the entry, or None for what is no whole one."""
    if len(value) < _HEAD.size:
        return None
    tokens, length = _HEAD.unpack_from(value)
    if len(value) != _HEAD.size + 4 * length:
        return None
    return Entry(np.frombuffer(value, "<f4", offset=_HEAD.size).astype(np.float32), tokens)
