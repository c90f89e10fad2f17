"""How much a key may ask for in a minute: buckets that fill again evenly, so that a minute has no edges.

What a request takes in tokens is known when it is over, so a key may overdraw its tokens once, and then waits.
"""

from __future__ import annotations

from time import monotonic

from conch_gateway.auth.keys import Key
from conch_gateway.errors import QuotaError


class Quotas:
    """The accounts of all keys. Several gateways keep one each."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def begin(self, key: Key) -> None:
        """Count a request.

        Raises:
            QuotaError: the key has to wait, for as long as the error says.
        """
        for unit, limit in (("requests", key.requests_per_minute), ("tokens", key.tokens_per_minute)):
            if limit is not None and (wait_s := self._bucket(key, unit, limit).wait_s()) > 0:
                msg = f"key {key.name!r} has used its {limit} {unit} a minute; retry when retry-after says"
                raise QuotaError(msg, wait_s)
        if key.requests_per_minute is not None:
            self._bucket(key, "requests", key.requests_per_minute).take(1)

    def spend(self, key: Key, tokens: int) -> None:
        """Count what a request took."""
        if key.tokens_per_minute is not None and tokens:
            self._bucket(key, "tokens", key.tokens_per_minute).take(tokens)

    def _bucket(self, key: Key, unit: str, limit: int) -> _Bucket:
        bucket = self._buckets.get((key.name, unit))
        if bucket is None or bucket.limit != limit:
            bucket = self._buckets[key.name, unit] = _Bucket(limit)
        return bucket


class _Bucket:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._left = float(limit)
        self._at = monotonic()

    def take(self, amount: int) -> None:
        self._fill()
        self._left -= amount

    def wait_s(self) -> float:
        """Seconds until there is one to take."""
        self._fill()
        return max(0.0, 1.0 - self._left) * 60.0 / self.limit

    def _fill(self) -> None:
        now = monotonic()
        self._left = min(self.limit, self._left + (now - self._at) * self.limit / 60.0)
        self._at = now
