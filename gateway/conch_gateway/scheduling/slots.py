"""Slots for the calls to a backend, and the queue for them, whose order is fair to the callers.

The order is that of self-clocked fair queueing (S. J. Golestani, "A self-clocked fair queueing scheme for broadband
applications", INFOCOM 1994). A flow is what one caller asks for, large requests apart from small ones. A call's tag is
its tokens beyond the tag before it in its flow, or beyond the virtual time where the flow had run dry; the lowest tag
goes first, and the virtual time is the tag that went last. So flows advance alike however much is queued in each,
requests of one flow are done in their order, and a small request overtakes the large ones of its own caller too.

Calls cannot be interrupted, so order alone does not help a request that arrives while large ones keep every instance
of the encoder busy. After a single short text has arrived while large requests were computed or waited, large requests
leave one instance free for a while: they get one slot less than there are instances, of which there are half as many as
slots. With one instance only, whoever makes the calls of large requests should keep them short (`short`). A lone caller
who alternates between the two, as a search that embeds its query and then reranks, gets all instances for both.

Background work, for which nobody waits, has a queue and a virtual time of its own. None of its calls starts while any
other waits. While callers are there at all, its calls are short and leave an instance free.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush
from itertools import chain, count
from math import exp, inf
from time import monotonic
from typing import NamedTuple

Clock = Callable[[], float]
"""Returns seconds from any fixed point in time."""

_SINGLES_COME_S = 10.0  # large requests leave an instance free for so long after a single text came beside them
_CALLERS_STAY_S = 5.0  # callers count as being there for so long after their last call
_MEMORY_S = 10.0  # of the throughput
# What is predicted. A backend that has failed for minutes would seem to need numbers that autoscalers cannot hold.
_LONGEST_S = 86_400.0


class Work(Enum):
    """Kinds of work, which differ in priority."""

    SMALL = "small"
    LARGE = "large"
    BACKGROUND = "background"


_OF_CALLERS = (Work.SMALL, Work.LARGE)


class Flow(NamedTuple):
    """A unit of fair queueing: the large requests, the small requests or the background work of one caller."""

    caller: str
    work: Work

    @property
    def in_background(self) -> bool:
        """Whether nobody waits for it."""
        return self.work is Work.BACKGROUND


@dataclass(slots=True)
class _FlowState:
    tag: float
    requests: int = 0


@dataclass(slots=True, eq=False)
class Entry:
    """One request at a backend.

    Attributes:
        request_id: of the request.
        flow: that its calls are queued in.
        queued_at: when its first call was queued.
        waited_s: how long its first call waited for its slot; None until it has one.
        begun_tokens: of its calls that have begun.
        done_tokens: of those that were answered.
    """

    request_id: str
    flow: Flow
    queued_at: float | None = None
    waited_s: float | None = None
    begun_tokens: int = 0
    done_tokens: int = 0


@dataclass(slots=True, eq=False)
class Ticket:
    """A call's place in the queue; `start` is called when it gets its slot, if `waits` is still true then."""

    entry: Entry
    tokens: int
    tag: float
    start: Callable[[], None]
    waits: bool = True


class Slots:
    """Gives slots to at most `calls` calls at a time; belongs to one event loop.

    Args:
        calls: that may be under way.
        clock: for the time that requests wait.

    Attributes:
        calls: that may be under way now.
    """

    def __init__(self, calls: int, clock: Clock = monotonic) -> None:
        self.clock = clock
        self.calls = calls
        self._instances = max(1, calls // 2)
        self._virtual_times = {False: 0.0, True: 0.0}  # of background work: True
        self._numbers = count()
        self._flows: dict[Flow, _FlowState] = {}
        self._under_way = dict.fromkeys(Work, 0)
        self._queues: dict[Work, list[tuple[float, int, Ticket]]] = {work: [] for work in Work}
        self._single_beside_at = self._caller_at = -inf
        self._throughput = _Throughput(clock())
        self._full = False

    def resize(self, calls: int) -> None:
        """Let as many calls be under way from now on."""
        if calls != self.calls:
            self.calls, self._instances = calls, max(1, calls // 2)
            self.grant()

    def enter(self, request_id: str, flow: Flow) -> Entry:
        """Open a request, whose calls may be queued until it leaves."""
        state = self._flows.setdefault(flow, _FlowState(self._virtual_times[flow.in_background]))
        state.requests += 1
        return Entry(request_id, flow)

    def leave(self, entry: Entry) -> None:
        """Close a request."""
        state = self._flows[entry.flow]
        state.requests -= 1
        # Otherwise a flow would stay for every address that has ever called.
        if not state.requests:
            del self._flows[entry.flow]

    def note_single(self) -> None:
        """Take note of a request that is a single short text, for which somebody waits."""
        if self._under_way[Work.LARGE] or _drop_gone(self._queues[Work.LARGE]):
            self._single_beside_at = self.clock()

    def queue(self, entry: Entry, tokens: int, start: Callable[[], None]) -> Ticket:
        """Put a call into the queue. Follow with `grant` when all calls of the request are in it."""
        if entry.queued_at is None:
            entry.queued_at = self.clock()
        state, background = self._flows[entry.flow], entry.flow.in_background
        if not background:
            self._caller_at = self.clock()
        # A flow that had run dry saves up nothing: it goes on where the others are now.
        state.tag = max(state.tag, self._virtual_times[background]) + tokens
        ticket = Ticket(entry, tokens, state.tag, start)
        # The number keeps equal tags in the order of arrival, and tickets, which have no order, from being compared.
        heappush(self._queues[entry.flow.work], (ticket.tag, next(self._numbers), ticket))
        return ticket

    def grant(self) -> None:
        """Start the calls for which there is a slot."""
        while (ticket := self._next()) is not None:
            entry = ticket.entry
            background = entry.flow.in_background
            # Large calls that were held back start later with lower tags, and virtual time never runs backwards.
            self._virtual_times[background] = max(self._virtual_times[background], ticket.tag)
            self._under_way[entry.flow.work] += 1
            if entry.waited_s is None and entry.queued_at is not None:
                entry.waited_s = self.clock() - entry.queued_at
            # In this order: what `start` begins takes texts whose tickets wait, and this ticket's must be among them.
            ticket.start()
            ticket.waits = False
        full = self._callers_wait()
        if full != self._full:
            # The stretch that ends here counts by whether calls waited during it, not by whether they do now.
            self._throughput.note(self.clock(), full=self._full)
            self._full = full

    def release(self, work: Work, tokens: int) -> None:
        """Free the slot of a call that has computed so many tokens; 0 if it failed."""
        # Before `grant`, which may empty the queue: these tokens were computed while it was as `_full` says.
        self._throughput.note(self.clock(), full=self._full, tokens=tokens)
        self._under_way[work] -= 1
        if work is not Work.BACKGROUND:
            self._caller_at = self.clock()
        self.grant()

    def seconds_for(self, tokens: int) -> float | None:
        """Return how long so many tokens take while calls have to wait; None if none had to so far."""
        return self._throughput.seconds_for(tokens)

    @property
    def under_way(self) -> int:
        """Number of calls that have a slot."""
        return sum(self._under_way.values())

    @property
    def idle(self) -> int:
        """Number of instances of the backend that compute no call of this gateway; 0 while calls wait."""
        return 0 if self._callers_wait() else max(0, self._instances - self.under_way)

    def waiting_tokens(self) -> Counter[Entry]:
        """Return how many tokens each request has in calls that wait for a slot, background work apart."""
        waiting: Counter[Entry] = Counter()
        for _, _, ticket in chain(*(self._queues[work] for work in _OF_CALLERS)):
            if ticket.waits:
                waiting[ticket.entry] += ticket.tokens
        return waiting

    def short(self, work: Work) -> bool:
        """Return whether calls should be short, since those for whom somebody waits come in between.

        So should large ones be if single texts come beside them and, with one instance only, none can be left free.
        """
        if work is Work.BACKGROUND:
            return self._callers_are_there
        return work is Work.LARGE and self._instances == 1 and self._singles_come

    @asynccontextmanager
    async def slot(self, entry: Entry, tokens: int) -> AsyncIterator[None]:
        """Wait for a slot, for a call that is not merged with others, and hold it inside the block."""
        granted, done = asyncio.Event(), 0
        ticket = self.queue(entry, tokens, granted.set)
        self.grant()
        try:
            await granted.wait()
            entry.begun_tokens += tokens
            yield
            done = tokens
            entry.done_tokens += tokens
        finally:
            # A waiting ticket is only marked, as finding it in the heap would cost a search. One that no longer waits
            # has its slot, even where the task was cancelled before it could go on.
            if ticket.waits:
                ticket.waits = False
            else:
                self.release(entry.flow.work, done)

    def _next(self) -> Ticket | None:
        if self.under_way >= self.calls:
            return None
        works = _OF_CALLERS if self._callers_wait() else (Work.BACKGROUND,)
        heads = [self._queues[work] for work in works if self._may_start(work) and _drop_gone(self._queues[work])]
        # Heaps compare by their first entries, which never tie: the numbers in them are unique over both queues.
        return heappop(min(heads))[-1] if heads else None

    def _may_start(self, work: Work) -> bool:
        # At least one call may run, so that callers can slow down large requests and background work but never stop
        # them; background work also counts the calls of others.
        most = max(1, self._instances - 1)
        if work is Work.BACKGROUND:
            return not self._callers_are_there or self.under_way < most
        return work is Work.SMALL or not self._singles_come or self._under_way[work] < most

    def _callers_wait(self) -> bool:
        return any(_drop_gone(self._queues[work]) for work in _OF_CALLERS)

    @property
    def _callers_are_there(self) -> bool:
        return self.clock() - self._caller_at <= _CALLERS_STAY_S

    @property
    def _singles_come(self) -> bool:
        return self.clock() - self._single_beside_at <= _SINGLES_COME_S


class _Throughput:
    """Tokens that a backend computes in a second; what is older than about `_MEMORY_S` counts exponentially less.

    Only measured while the queue is not empty: a lone request is bounded by its own latency, not by the backend.
    """

    def __init__(self, now: float) -> None:
        self._tokens = 0.0
        self._seconds = 0.0
        self._noted_at = now

    def note(self, now: float, *, full: bool, tokens: int = 0) -> None:
        """End a stretch of time in which the queue was empty or not, and at whose end so many tokens were computed."""
        if full:
            fade = exp((self._noted_at - now) / _MEMORY_S)
            self._seconds = self._seconds * fade + now - self._noted_at
            self._tokens = self._tokens * fade + tokens
        self._noted_at = now

    def seconds_for(self, tokens: int) -> float | None:
        """Return how long so many tokens take, a day at most; None if nothing has been measured."""
        return min(tokens * self._seconds / self._tokens, _LONGEST_S) if self._tokens else None


def _drop_gone(queue: list[tuple[float, int, Ticket]]) -> bool:
    """Drop calls from the queue's head that do not wait any more; return whether any is left."""
    while queue and not queue[0][-1].waits:
        heappop(queue)
    return bool(queue)
