"""Usage of keys, counted by all gateways together: the buckets of `auth.quota` in Redis.

A bucket is a key that holds the microsecond, by Redis' own clock, at which it will be full, and expires then.
"""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import Redis

from conch_gateway.auth.quota import MINUTE_S, Charge, Refusal
from conch_gateway.shared.store import Link

# Reads and writes as one: Redis runs nothing else meanwhile.
_TAKE = """
-- KEYS: buckets. ARGV: whether an empty one refuses (1); for each, microseconds in which a unit refills, and units.
local minute = 60000000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local owed = {}
for i, key in ipairs(KEYS) do
    owed[i] = math.max(0, (tonumber(redis.call('GET', key)) or 0) - now)
    local wait = owed[i] + ARGV[2 * i] - minute
    if ARGV[1] == '1' and wait > 0 then
        return {i, wait}
    end
end
for i, key in ipairs(KEYS) do
    local after = owed[i] + ARGV[2 * i] * ARGV[2 * i + 1]
    if after > 0 then
        redis.call('SET', key, string.format('%.0f', now + after), 'PX', string.format('%.0f', math.ceil(after / 1000)))
    end
end
return {0, 0}
"""


class RedisBuckets:
    """Buckets that all gateways with one Redis and one prefix take from; see `auth.quota.SharedBuckets`."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self.link = Link(redis, "quotas", "each gateway counts for itself what keys use")
        self._prefix = prefix
        self._script = redis.register_script(_TAKE)

    async def take(self, charges: Sequence[Charge]) -> Refusal | None:
        """Take from all buckets unless one is empty; None also where Redis gives no answer."""
        answer = await self.link.ask(lambda: self._run(charges, checked=True))
        if not answer or not answer[0]:
            return None
        number, wait_us = answer
        return Refusal(charges[number - 1], wait_us / 1e6)

    def spend(self, charges: Sequence[Charge]) -> None:
        """Take from all buckets, soon, whatever is in them."""
        self.link.tell(lambda: self._run(charges, checked=False))

    async def _run(self, charges: Sequence[Charge], *, checked: bool) -> list[int]:
        keys = [f"{self._prefix}:quota:{one.holder}:{one.unit}:{one.limit}" for one in charges]
        numbers = [number for one in charges for number in (1e6 * MINUTE_S / one.limit, one.amount)]
        answer: list[int] = await self._script(keys=keys, args=[int(checked), *numbers])
        return answer
