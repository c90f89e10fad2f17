"""Requests and tokens that a key may use in a minute: buckets that refill evenly, so that a minute has no edges.

The tokens of a request are known only when it is over, so a key may overdraw its tokens once, and then waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import NamedTuple, Protocol

from conch_gateway.auth.keys import Key
from conch_gateway.errors import QuotaError

MINUTE_S = 60
_ROUNDING_S = 1e-6


class Charge(NamedTuple):
    """A charge on one bucket: `amount` units of those of which `holder` may use `limit` in a minute."""

    holder: str
    unit: str
    limit: int
    amount: int


class Refusal(NamedTuple):
    """An empty bucket, and the seconds until it has a unit again."""

    charge: Charge
    wait_s: float


class SharedBuckets(Protocol):
    """Buckets that other gateways take from as well; they may be out of reach."""

    async def take(self, charges: Sequence[Charge]) -> Refusal | None:
        """Take from all buckets unless one is empty; None also where they are out of reach."""

    def spend(self, charges: Sequence[Charge]) -> None:
        """Take from all buckets, soon, whatever is in them."""


class Quotas:
    """The quotas of all keys.

    This gateway's own buckets are taken from as well where they are shared: they are what counts while the shared ones
    are out of reach, and their holders may use no more here than everywhere.
    """

    def __init__(self, shared: SharedBuckets | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._shared = shared
        self._own = _Buckets(clock)

    async def begin(self, key: Key) -> None:
        """Count a request.

        Raises:
            QuotaError: the key has to wait, for as long as the error says.
        """
        charges = _charges(key, requests=1, tokens=0)
        if not charges:
            return
        # Our own first: what these refuse is taken from no other gateway.
        refusal = self._own.take(charges)
        if refusal is None and self._shared is not None:
            refusal = await self._shared.take(charges)
            if refusal is not None:
                self._own.spend(_given_back(charges))
        if refusal is not None:
            _, unit, limit, _ = refusal.charge
            msg = f"key {key.name!r} has used its {limit} {unit} a minute; retry when retry-after says"
            raise QuotaError(msg, refusal.wait_s)

    def spare_in_s(self, key: Key) -> float:
        """Return when the key can spare tokens: 0 while at least half of a minute's are left, by our count."""
        return max((self._own.half_full_in_s(charge) for charge in _spent(key, 1)), default=0.0)

    @contextmanager
    def expecting(self, key: Key, tokens: int) -> Iterator[None]:
        """Count tokens that background work may take, half of a minute's at most and here only, inside the block."""
        charges = _spent(key, min(tokens, (key.tokens_per_minute or 0) // 2))
        self._own.spend(charges)
        try:
            yield
        finally:
            self._own.spend(_given_back(charges))

    def spend(self, key: Key, tokens: int) -> None:
        """Count the tokens of a request that is over."""
        charges = _spent(key, tokens)
        self._own.spend(charges)
        if charges and self._shared is not None:
            self._shared.spend(charges)


def _given_back(charges: Sequence[Charge]) -> list[Charge]:
    return [charge._replace(amount=-charge.amount) for charge in charges]


def _spent(key: Key, tokens: int) -> list[Charge]:
    return [charge for charge in _charges(key, requests=0, tokens=tokens) if charge.amount]


def _charges(key: Key, *, requests: int, tokens: int) -> list[Charge]:
    """Return what is taken from the buckets that a key has."""
    limits = (("requests", key.requests_per_minute, requests), ("tokens", key.tokens_per_minute, tokens))
    return [Charge(key.name, unit, limit, amount) for unit, limit, amount in limits if limit is not None]


class _Buckets:
    """The buckets of one gateway: for each, the time at which it will be full. One whose limit was changed is new.

    This is the generic cell rate algorithm (ITU-T I.371): one number for a bucket, and nothing to do as time passes.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._full_at: dict[tuple[str, str, int], float] = {}
        self._tidy_at = -inf

    def take(self, charges: Sequence[Charge]) -> Refusal | None:
        """Take from all buckets unless one is empty: a refused request must not cost its caller one."""
        for charge in charges:
            wait_s = self._owed_s(charge) + MINUTE_S / charge.limit - MINUTE_S
            if wait_s > _ROUNDING_S:
                return Refusal(charge, wait_s)
        self.spend(charges)
        return None

    def spend(self, charges: Sequence[Charge]) -> None:
        """Take from all buckets, whatever is in them."""
        now = self._clock()
        if now >= self._tidy_at:  # full ones are those of keys that are not used, or not there any more
            self._full_at = {bucket: full_at for bucket, full_at in self._full_at.items() if full_at > now}
            self._tidy_at = now + MINUTE_S
        for charge in charges:
            owed_s = self._owed_s(charge) + charge.amount * MINUTE_S / charge.limit
            self._full_at[charge[:3]] = now + owed_s

    def half_full_in_s(self, charge: Charge) -> float:
        """Return the seconds until a bucket is half full; 0 if it is."""
        return max(0.0, self._owed_s(charge) - MINUTE_S / 2)

    def _owed_s(self, charge: Charge) -> float:
        """Return the seconds until the bucket is full."""
        now = self._clock()
        return max(0.0, self._full_at.get(charge[:3], now) - now)
