"""Requests and tokens that a key may use in a minute: buckets that refill evenly, so that a minute has no edges.

The tokens of a request are known only when it is over, so a key may overdraw its tokens once, and then waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from conch_gateway.auth.keys import Key
from conch_gateway.errors import QuotaError


class Quotas:
    """The buckets of all keys; several gateways keep one set each."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def begin(self, key: Key) -> None:
        """Count a request.

        Raises:
            QuotaError: the key has to wait, for as long as the error says.
        """
        # Both limits are looked at before anything is taken: a refused request must not cost its caller one.
        for unit, limit in (("requests", key.requests_per_minute), ("tokens", key.tokens_per_minute)):
            if limit is not None and (left := self._bucket(key, unit, limit).left) < 1:
                msg = f"key {key.name!r} has used its {limit} {unit} a minute; retry when retry-after says"
                raise QuotaError(msg, (1 - left) * 60 / limit)
        if key.requests_per_minute is not None:
            self._bucket(key, "requests", key.requests_per_minute).left -= 1

    def spend(self, key: Key, tokens: int) -> None:
        """Count the tokens of a request that is over."""
        if key.tokens_per_minute is not None and tokens:
            self._bucket(key, "tokens", key.tokens_per_minute).left -= tokens

    def _bucket(self, key: Key, unit: str, limit: int) -> _Bucket:
        """Return the bucket as it is now; one whose limit was changed starts full."""
        now, bucket = self._clock(), self._buckets.get((key.name, unit))
        if bucket is None or bucket.limit != limit:
            bucket = self._buckets[key.name, unit] = _Bucket(limit, limit, now)
        bucket.left = min(limit, bucket.left + (now - bucket.filled_at) * limit / 60)
        bucket.filled_at = now
        return bucket


@dataclass(slots=True)
class _Bucket:
    limit: int
    left: float
    filled_at: float
