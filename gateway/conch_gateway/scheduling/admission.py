"""How much may be in flight: full means a quick 429 that says when to retry, not a queue that ends in deadlines.

There is one limit for all that the gateway holds, and one for each backend: how long a request would wait for it.
Before a request is tokenised its tokens are estimated from its length; then its reservation is corrected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

from conch_gateway.errors import CapacityError
from conch_gateway.scheduling.sizes import estimated_sizes, is_large
from conch_gateway.scheduling.slots import Entry, Flow, Slots

_SHORTEST_S, _UNKNOWN_S, _LONGEST_S = 0.05, 1.0, 30.0  # of what callers are told to wait
_ANY_ROWS = 2**31


class Backlog:
    """Requests that wait for one backend. Rejects one that would wait too long, and says when to retry.

    Slots let flows advance alike. So before a request is done, every other flow has advanced as far as its own, or has
    run dry; what arrives later does not count.

    Args:
        slots: of the backend.
        timeout_s: how long a request may take whose caller does not say less.
        setting: name of that setting.
    """

    def __init__(self, slots: Slots, timeout_s: float, setting: str) -> None:
        self.slots = slots
        self._timeout_s = timeout_s
        self._setting = setting
        self._tokens: Counter[Flow] = Counter()
        self._refused_until = 0.0

    def check(self, flow: Flow, tokens: int, stated_s: float, model: str = "") -> None:
        """Check whether one more request would be done in time; a flow without requests is always taken.

        Args:
            flow: of the request.
            tokens: of the request.
            stated_s: how long its caller says it waits.
            model: that the request is for, by the name that it gave.

        Raises:
            CapacityError: it would not, until the time that it says.
        """
        ahead = self._tokens.get(flow, 0)
        before = tokens + sum(min(ahead + tokens, other) for other in self._tokens.values())
        needed_s = self.slots.seconds_for(before)
        if ahead and needed_s is not None and needed_s > min(stated_s, self._timeout_s):
            reason = f"{self._setting.format(model)} is {self._timeout_s:g}"
            if stated_s < self._timeout_s:
                reason = f"you wait {stated_s:g} s by your request's headers"
            msg = (
                f"the answer would take {needed_s:.0f} s, as you have about {ahead} tokens in flight already, and "
                f"{reason}; retry when retry-after says, or send fewer texts at once"
            )
            raise CapacityError(msg, self.retry_after_s(tokens))

    def retry_after_s(self, tokens: int) -> float:
        """Put a refused request behind those that were refused before, and return when there will be room for it."""
        now, needed_s = self.slots.clock(), self.slots.seconds_for(tokens)
        if needed_s is None:
            return _UNKNOWN_S
        self._refused_until = min(max(now, self._refused_until) + needed_s, now + _LONGEST_S)
        return max(_SHORTEST_S, self._refused_until - now)

    def add(self, flow: Flow, tokens: int) -> None:
        """Add to what a flow has in flight, or take from it."""
        self._tokens[flow] += tokens
        if not self._tokens[flow]:
            del self._tokens[flow]


class Admission:
    """Counts the requests, texts and tokens in flight. One event loop's: not thread-safe.

    Args:
        backlog: of the backend whose throughput says when there will be room again.
        max_requests: in flight.
        max_texts: in flight.
        max_tokens: in flight.
    """

    def __init__(self, backlog: Backlog, *, max_requests: int, max_texts: int, max_tokens: int) -> None:
        self._backlog = backlog
        self._max_requests = max_requests
        self._max_texts = max_texts
        self._max_tokens = max_tokens
        self.requests = 0
        self.texts = 0
        self.tokens = 0

    @contextmanager
    def reserve(
        self,
        request_id: str,
        caller: str,
        rows: Sequence[str] | Sequence[Sequence[int]],
        *,
        beside: int = 0,
        stated_s: float = inf,
    ) -> Iterator[Reservation]:
        """Hold room for one request inside the block.

        Args:
            request_id: of the request.
            caller: whose flows its calls are queued in.
            rows: texts, or their token ids.
            beside: characters that are computed with each text.
            stated_s: how long the caller says it waits.

        Raises:
            CapacityError: there is no room now.
        """
        tokens = sum(estimated_sizes(rows, beside=beside))
        self.check(len(rows), tokens)
        reservation = Reservation(self, request_id, caller, len(rows), tokens, stated_s)
        self.requests += 1
        self.texts += len(rows)
        self.tokens += tokens
        try:
            yield reservation
        finally:
            self.requests -= 1
            self.texts -= len(rows)
            reservation.end()

    def check(self, texts: int, tokens: int) -> None:
        """Raise CapacityError where there is no room; while there is no other request, one of any size has room."""
        full = (
            self.requests >= self._max_requests
            or self.texts + texts > self._max_texts
            or self.tokens + tokens > self._max_tokens
        )
        if full and self.requests:
            msg = (
                f"the gateway is full ({self.requests} requests with {self.texts} texts and about {self.tokens} tokens "
                "in flight; the limits are CONCH_MAX_IN_FLIGHT_REQUESTS, _TEXTS and _TOKENS); retry when retry-after "
                "says, or send fewer texts at once"
            )
            raise CapacityError(msg, self._backlog.retry_after_s(max(tokens, self.tokens // self.requests)))


@dataclass(slots=True, eq=False)
class Reservation:
    """What one request has in flight: in the gateway, and from `wait_for` on at one backend.

    Attributes:
        admission: where it has room.
        request_id: of the request.
        caller: whose flows its calls are queued in.
        rows: that are to be computed.
        tokens: of the rows; an estimate until the request is tokenised.
        stated_s: how long the caller says it waits.
        slots: of the backend.
        entry: the request in these slots.
    """

    admission: Admission
    request_id: str
    caller: str
    rows: int
    tokens: int
    stated_s: float
    slots: Slots = field(init=False)
    entry: Entry = field(init=False)
    _backlog: Backlog | None = None
    _max_rows: int = _ANY_ROWS

    @property
    def queue_s(self) -> float | None:
        """How long its first call waited for a slot; None if it got none."""
        return None if self._backlog is None else self.entry.waited_s

    @property
    def flow(self) -> Flow:
        """What its calls are queued in."""
        return Flow(self.caller, is_large(self.rows, self.tokens, self._max_rows))

    def wait_for(self, backlog: Backlog, max_rows: int, model: str) -> None:
        """Join the backlog of a backend, whose calls take `max_rows` rows; `model` is the name that was asked for.

        Raises:
            CapacityError: the request would wait too long.
        """
        if self._backlog is not None:  # it begins anew
            self._leave(self._backlog)
            self._backlog = None
        self._max_rows = max_rows
        backlog.check(self.flow, self.tokens, self.stated_s, model)
        self._backlog, self.slots = backlog, backlog.slots
        self._join(backlog)

    def correct(self, tokens: int, rows: int | None = None) -> None:
        """Replace the estimate by what is to be computed; before calls are queued."""
        if self._backlog is not None:
            self._leave(self._backlog)
        self.admission.tokens += tokens - self.tokens
        self.tokens, self.rows = tokens, rows or self.rows
        if self._backlog is not None:
            self._join(self._backlog)

    def end(self) -> None:
        """Give everything back."""
        if self._backlog is not None:
            self._leave(self._backlog)
        self.admission.tokens -= self.tokens

    def _join(self, backlog: Backlog) -> None:
        self.entry = backlog.slots.enter(self.request_id, self.flow)
        backlog.add(self.entry.flow, self.tokens)

    def _leave(self, backlog: Backlog) -> None:
        backlog.slots.leave(self.entry)
        backlog.add(self.entry.flow, -self.tokens)
