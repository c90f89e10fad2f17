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

The models of a backend share its slots, as they share its machine. A model whose calls are under way and which has
answered none for `_SILENT_S` is silent: it may hang. Other models' calls then start as if it had neither calls under
way nor calls that wait. A model that is only slow has more calls beside it for a while, which is no harm.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
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
_SILENT_S = 10.0  # after which a model that answers nothing holds up no other
_LOOK_S = 1.0  # between two looks for such models while calls wait
_MEMORY_S = 10.0  # of the throughput
# What is predicted. A backend that has failed for minutes would seem to need numbers that autoscalers cannot hold.
_LONGEST_S = 86_400.0


class Work(Enum):
    """Kinds of work, which differ in priority."""

    SMALL = "small"
    LARGE = "large"
    BACKGROUND = "background"


_ALL = tuple(Work)
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
        model: that its calls are for.
        queued_at: when its first call was queued.
        waited_s: how long its first call waited for its slot; None until it has one.
        begun_tokens: of its calls that have begun.
        done_tokens: of those that were answered.
    """

    request_id: str
    flow: Flow
    model: str
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


@dataclass(slots=True, eq=False)
class _Model:
    """The calls for one model of a backend.

    Attributes:
        requests: that are open.
        heard_at: when it last answered a call or, if later, got one while it had none.
        under_way: calls that have a slot.
        queues: calls that wait for one.
    """

    heard_at: float
    requests: int = 0
    under_way: Counter[Work] = field(default_factory=Counter)
    queues: dict[Work, list[tuple[float, int, Ticket]]] = field(default_factory=lambda: {work: [] for work in _ALL})

    def waits(self, works: Iterable[Work]) -> bool:
        return any(_drop_gone(self.queues[work]) for work in works)

    def begin(self, work: Work, now: float) -> None:
        if not self.under_way.total():
            self.heard_at = now
        self.under_way[work] += 1


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
        self._models: dict[str, _Model] = {}
        self._looks_again = False
        self._single_beside_at = self._caller_at = -inf
        self._throughput = _Throughput(clock())
        self._full = False

    def resize(self, calls: int) -> None:
        """Let as many calls be under way from now on."""
        if calls != self.calls:
            self.calls, self._instances = calls, max(1, calls // 2)
            self.grant()

    def enter(self, request_id: str, flow: Flow, model: str) -> Entry:
        """Open a request for a model, whose calls may be queued until it leaves."""
        state = self._flows.setdefault(flow, _FlowState(self._virtual_times[flow.in_background]))
        state.requests += 1
        calls = self._models.get(model)
        if calls is None:
            calls = self._models[model] = _Model(self.clock())
        calls.requests += 1
        return Entry(request_id, flow, model)

    def leave(self, entry: Entry) -> None:
        """Close a request."""
        state = self._flows[entry.flow]
        state.requests -= 1
        # Otherwise a flow would stay for every address that has ever called.
        if not state.requests:
            del self._flows[entry.flow]
        self._models[entry.model].requests -= 1
        self._forget(entry.model)

    def note_single(self) -> None:
        """Take note of a request that is a single short text, for which somebody waits."""
        if any(model.under_way[Work.LARGE] or model.waits([Work.LARGE]) for model in self._models.values()):
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
        heappush(self._models[entry.model].queues[entry.flow.work], (ticket.tag, next(self._numbers), ticket))
        return ticket

    def grant(self) -> None:
        """Start the calls for which there is a slot."""
        while (ticket := self._next()) is not None:
            entry = ticket.entry
            background = entry.flow.in_background
            # Large calls that were held back start later with lower tags, and virtual time never runs backwards.
            self._virtual_times[background] = max(self._virtual_times[background], ticket.tag)
            self._models[entry.model].begin(entry.flow.work, self.clock())
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
        self._look_again()

    def release(self, work: Work, tokens: int, model: str) -> None:
        """Free the slot of a call for a model that has computed so many tokens; 0 if it failed."""
        # Before `grant`, which may empty the queue: these tokens were computed while it was as `_full` says.
        self._throughput.note(self.clock(), full=self._full, tokens=tokens)
        self._models[model].under_way[work] -= 1
        if tokens:
            self._models[model].heard_at = self.clock()
        if work is not Work.BACKGROUND:
            self._caller_at = self.clock()
        self._forget(model)
        self.grant()

    def seconds_for(self, tokens: int) -> float | None:
        """Return how long so many tokens take while calls have to wait; None if none had to so far."""
        return self._throughput.seconds_for(tokens)

    @property
    def under_way(self) -> int:
        """Number of calls that have a slot."""
        return _under_way(self._models.values())

    @property
    def idle(self) -> int:
        """Number of instances of the backend that compute no call of this gateway; 0 while calls wait."""
        return 0 if self._callers_wait() else max(0, self._instances - self.under_way)

    def waiting_tokens(self) -> Counter[Entry]:
        """Return how many tokens each request has in calls that wait for a slot, background work apart."""
        waiting: Counter[Entry] = Counter()
        queues = (model.queues[work] for model in self._models.values() for work in _OF_CALLERS)
        for _, _, ticket in chain(*queues):
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
                self.release(entry.flow.work, done, entry.model)

    def is_silent(self, model: str) -> bool:
        """Return whether a model has answered nothing for long, although it had calls under way all the time."""
        calls = self._models.get(model)
        return calls is not None and bool(calls.under_way.total()) and self.clock() - calls.heard_at > _SILENT_S

    def _forget(self, model: str) -> None:
        """Drop a model without requests; calls may outlast the requests that they were for."""
        calls = self._models[model]
        if not (calls.requests or calls.under_way.total()):
            del self._models[model]

    def _next(self) -> Ticket | None:
        heads = [queue for model in self._models for queue in self._heads(model)]
        if not heads:
            return None
        # Callers first. Entries of heaps never tie: the numbers in them are unique over all queues.
        first = min(heads, key=lambda queue: (queue[0][-1].entry.flow.in_background, queue[0]))
        return heappop(first)[-1]

    def _heads(self, model: str) -> list[list[tuple[float, int, Ticket]]]:
        """Return the queues of a model of which the first call may start now."""
        own = self._models[model]
        if not own.waits(_ALL):
            return []
        beside = [own, *(each for name, each in self._models.items() if each is not own and not self.is_silent(name))]
        if _under_way(beside) >= self.calls:
            return []
        works = _OF_CALLERS if any(each.waits(_OF_CALLERS) for each in beside) else (Work.BACKGROUND,)
        return [own.queues[work] for work in works if own.waits([work]) and self._may_start(work, beside)]

    def _may_start(self, work: Work, beside: Collection[_Model]) -> bool:
        # At least one call may run, so that callers can slow down large requests and background work but never stop
        # them; background work also counts the calls of others.
        most = max(1, self._instances - 1)
        if work is Work.BACKGROUND:
            return not self._callers_are_there or _under_way(beside) < most
        return work is Work.SMALL or not self._singles_come or sum(each.under_way[work] for each in beside) < most

    def _callers_wait(self) -> bool:
        return any(model.waits(_OF_CALLERS) for model in self._models.values())

    def _look_again(self) -> None:
        """Grant later what may start then: a model that hangs ends no call at whose end others would start."""
        models = self._models.values()
        if not self._looks_again and len(models) > 1 and any(model.waits(_ALL) for model in models):
            self._looks_again = True
            asyncio.get_running_loop().call_later(_LOOK_S, self._grant_again)

    def _grant_again(self) -> None:
        self._looks_again = False
        self.grant()

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


def _under_way(models: Iterable[_Model]) -> int:
    return sum(model.under_way.total() for model in models)


def _drop_gone(queue: list[tuple[float, int, Ticket]]) -> bool:
    """Drop calls from the queue's head that do not wait any more; return whether any is left."""
    while queue and not queue[0][-1].waits:
        heappop(queue)
    return bool(queue)
