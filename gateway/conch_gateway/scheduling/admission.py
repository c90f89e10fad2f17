"""Admission: how much may be in flight. A request that does not fit gets 429 at once, with the time to retry after.

There is one limit for all that the gateway holds, and one for each backend: how long a request would wait for it.
Tokens are estimated from the length of texts until these are tokenised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

from conch_gateway.errors import CapacityError
from conch_gateway.scheduling.sizes import CALL_TOKENS, estimated_sizes
from conch_gateway.scheduling.slots import Entry, Flow, Slots, Work

_SHORTEST_S, _UNKNOWN_S, _LONGEST_S = 0.05, 1.0, 30.0  # of what callers are told to wait
_BACKGROUND_PART = 4  # background work takes one part of so many of the room, and one request of it such a part of that


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
        # Each flow gets as far as this one, or runs dry. This flow is among them, with what it has ahead. Background
        # work lets all others go first.
        others = (held for other, held in self._tokens.items() if flow.in_background or not other.in_background)
        before = tokens + sum(min(ahead + tokens, held) for held in others)
        needed_s = self.slots.seconds_for(before)
        if ahead and needed_s is not None and needed_s > min(stated_s, self._timeout_s):
            reason = f"{self._setting.format(model)} is {self._timeout_s:g}"
            if stated_s < self._timeout_s:
                reason = f"you wait {stated_s:g} s by your request's headers"
            msg = (
                f"the answer would take {needed_s:.0f} s, as you have about {ahead} tokens in flight already, and "
                f"{reason}; retry when retry-after says, or send fewer texts at once"
            )
            raise CapacityError(msg, self.retry_after_s(tokens, background=flow.in_background))

    def retry_after_s(self, tokens: int, *, background: bool = False) -> float:
        """Put a refused request behind those that were refused before, and return when there will be room for it.

        Callers are not put behind background work: nobody waits for that.
        """
        now, needed_s = self.slots.clock(), self.slots.seconds_for(tokens)
        if needed_s is None:
            return _UNKNOWN_S
        until = min(max(now, self._refused_until) + needed_s, now + _LONGEST_S)
        if not background:
            self._refused_until = until
        return max(_SHORTEST_S, until - now)

    def add(self, flow: Flow, tokens: int) -> None:
        """Add to what a flow has in flight, or take from it."""
        self._tokens[flow] += tokens
        # A Counter would keep a zero for every caller that there has ever been.
        if not self._tokens[flow]:
            del self._tokens[flow]


class Admission:
    """Counts the requests, texts and tokens in flight. One event loop's: not thread-safe.

    Args:
        backlog: of the backend whose throughput says when there will be room again.
        max_requests: in flight.
        max_texts: in flight.
        max_tokens: in flight.

    Attributes:
        reservations: of the requests in flight.
    """

    def __init__(self, backlog: Backlog, *, max_requests: int, max_texts: int, max_tokens: int) -> None:
        self._backlog = backlog
        self._max_requests = max_requests
        self._max_texts = max_texts
        self._max_tokens = max_tokens
        self.reservations: set[Reservation] = set()
        self.texts = 0
        self.tokens = 0
        self._in_background = _Held()
        self._most_background_texts = max(1, max_texts // _BACKGROUND_PART**2)
        self._most_background_tokens = max(1, max_tokens // _BACKGROUND_PART**2)

    @contextmanager
    def reserve(
        self,
        request_id: str,
        caller: str,
        rows: Sequence[str] | Sequence[Sequence[int]],
        *,
        beside: int = 0,
        stated_s: float = inf,
        background: bool = False,
    ) -> Iterator[Reservation]:
        """Hold room for one request inside the block.

        Args:
            request_id: of the request.
            caller: whose flows its calls are queued in.
            rows: texts, or their token ids.
            beside: characters that are computed with each text.
            stated_s: how long the caller says it waits.
            background: whether nobody waits for it; all of that has a part of the room only, in which one request
                counts as a part at most, so that none is too large for it.

        Raises:
            CapacityError: there is no room now.
        """
        tokens = sum(estimated_sizes(rows, beside=beside))
        texts = min(len(rows), self._most_background_texts) if background else len(rows)
        reservation = Reservation(self, request_id, caller, texts, tokens, stated_s, self.now(), background)
        self.check(texts, tokens, background=background)
        if background:
            self._check_background(texts, reservation.counted)
        self._hold(reservation)
        try:
            yield reservation
        finally:
            self._let_go(reservation)

    @property
    def requests(self) -> int:
        """Number of requests in flight."""
        return len(self.reservations)

    def now(self) -> float:
        """Return the time, in seconds."""
        return self._backlog.slots.clock()

    def counted(self, tokens: int, *, background: bool) -> int:
        """Return as how many tokens a request with so many counts."""
        return min(tokens, self._most_background_tokens) if background else tokens

    def check(self, texts: int, tokens: int, *, background: bool = False) -> None:
        """Raise CapacityError where there is no room; while there is no other request, one of any size has room."""
        tokens = self.counted(tokens, background=background)
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
            # Room comes free only when a whole request ends, so the wait is at least that for an average one.
            average = self.tokens // self.requests
            raise CapacityError(msg, self._backlog.retry_after_s(max(tokens, average), background=background))

    def check_hanging(self, model: str) -> None:
        """Check that models which answer nothing, of which `model` is one, leave half of the room to others.

        Raises:
            CapacityError: they would not.
        """
        held = [reservation for reservation in self.reservations if reservation.hangs]
        half = (
            2 * len(held) >= self._max_requests
            or 2 * sum(reservation.texts for reservation in held) >= self._max_texts
            or 2 * sum(reservation.counted for reservation in held) >= self._max_tokens
        )
        if half:
            msg = (
                f"model {model!r} has answered nothing for a while, and {len(held)} requests wait already for models "
                "that do not answer; retry when it does"
            )
            raise CapacityError(msg, _LONGEST_S)

    def _check_background(self, texts: int, tokens: int) -> None:
        held = self._in_background
        full = (
            held.requests >= self._max_requests // _BACKGROUND_PART
            or held.texts + texts > self._max_texts // _BACKGROUND_PART
            or held.tokens + tokens > self._max_tokens // _BACKGROUND_PART
        )
        if full and held.requests:
            msg = "as much is computed in the background as may be; retry when some of it is done"
            raise CapacityError(msg, self._backlog.retry_after_s(tokens, background=True))

    def _hold(self, reservation: Reservation) -> None:
        self.reservations.add(reservation)
        self.texts += reservation.texts
        self.tokens += reservation.counted
        if reservation.background:
            self._in_background.add(1, reservation.texts, reservation.counted)

    def _let_go(self, reservation: Reservation) -> None:
        self.reservations.discard(reservation)
        self.texts -= reservation.texts
        if reservation.background:
            self._in_background.add(-1, -reservation.texts, 0)
        # The reservation gives back the tokens: it alone knows how many, once the estimate was corrected.
        reservation.end()

    def correct(self, tokens: int, *, background: bool) -> None:
        """Count so many tokens more, once a request is known to have more or fewer than were estimated."""
        self.tokens += tokens
        if background:
            self._in_background.add(0, 0, tokens)


@dataclass(slots=True)
class _Held:
    requests: int = 0
    texts: int = 0
    tokens: int = 0

    def add(self, requests: int, texts: int, tokens: int) -> None:
        self.requests += requests
        self.texts += texts
        self.tokens += tokens


def work_of(rows: int, tokens: int, max_rows: int, *, background: bool = False) -> Work:
    """Return what the calls of a request compete as."""
    if background:
        return Work.BACKGROUND
    # Large is what takes several calls, or one that is as long.
    return Work.LARGE if rows > max_rows or tokens > CALL_TOKENS else Work.SMALL


@dataclass(slots=True, eq=False)
class Reservation:
    """The room of one request: in the gateway, and from `join` on in the backlog of one backend.

    Attributes:
        admission: where it has room.
        request_id: of the request.
        caller: whose flows its calls are queued in.
        texts: that it counts as in the gateway.
        tokens: an estimate, until the request joins a backlog.
        stated_s: how long the caller says it waits.
        since: when it was made.
        background: whether nobody waits for it.
        asked: the model's name in the request.
        model: the model's own name, once it is known which one is meant.
        backlog: that it has joined; None before, and once it has left.
        entry: the request in the slots of that backlog.
    """

    admission: Admission
    request_id: str
    caller: str
    texts: int
    tokens: int
    stated_s: float
    since: float
    background: bool = False
    asked: str = ""
    model: str = ""
    backlog: Backlog | None = None
    entry: Entry = field(init=False)

    @property
    def counted(self) -> int:
        """Tokens that it takes of the room in the gateway."""
        return self.admission.counted(self.tokens, background=self.background)

    @property
    def queue_s(self) -> float | None:
        """Seconds that its first call waited for a slot; None if it got none."""
        return None if self.backlog is None else self.entry.waited_s

    @property
    def hangs(self) -> bool:
        """Whether it waits for a model that has answered nothing for long."""
        return self.backlog is not None and self.backlog.slots.is_silent(self.model)

    def spent(self, *, under_way: bool) -> int:
        """Return the tokens of the calls that were answered, and of those `under_way` too if these go on."""
        if self.backlog is None:
            return 0
        return self.entry.begun_tokens if under_way else self.entry.done_tokens

    def join(self, backlog: Backlog, sizes: Sequence[int], max_rows: int) -> None:
        """Join the backlog of a backend, before calls are queued; once more for what is added to the request.

        Args:
            backlog: of the backend.
            sizes: tokens of each row that is to be computed, estimated where they are not known.
            max_rows: most rows of a call.

        Raises:
            CapacityError: the request would wait too long, or for a model that hangs.
        """
        # Background work has a smaller part of the room anyway, and a refusal would slow down that of all models.
        if backlog.slots.is_silent(self.model) and not self.background:
            self.admission.check_hanging(self.asked)
        tokens = sum(sizes)
        # Decided once: what is added to a request later stays in its flow, so that it leaves the flow that it joined.
        work = work_of(len(sizes), tokens, max_rows, background=self.background)
        flow = Flow(self.caller, work) if self.backlog is None else self.entry.flow
        backlog.check(flow, tokens, self.stated_s, self.asked)
        if self.backlog is None:
            self._count(-self.tokens)  # the estimate
            self.backlog = backlog
            self.entry = backlog.slots.enter(self.request_id, flow, self.model)
        self._count(tokens)
        backlog.add(flow, tokens)

    def leave(self) -> None:
        """Leave the backlog, if the request has joined one."""
        if self.backlog is not None:
            self.backlog.slots.leave(self.entry)
            self.backlog.add(self.entry.flow, -self.tokens)
            self.backlog = None

    def end(self) -> None:
        """Give everything back."""
        self.leave()
        self._count(-self.tokens)

    def _count(self, tokens: int) -> None:
        before = self.counted
        self.tokens += tokens
        self.admission.correct(self.counted - before, background=self.background)
