"""Whose call to Triton is next: so many are under way at most, and the rest wait here, where their order is decided.

The order is that of self-clocked fair queueing (S. J. Golestani, "A self-clocked fair queueing scheme for broadband
applications", INFOCOM 1994): a call's tag is the clock at its request's arrival plus all that the request asks for up
to and including this call; the lowest tag goes first, and the clock is the tag that went last. A small request
therefore overtakes what is left of large ones, and large ones that wait long enough cannot be overtaken any more. The
n-th request that one caller has at the same time advances 1/n as fast as the first.

Calls cannot be interrupted, so order alone does not help who arrives while large requests hold every call. While small
requests are about, large ones leave half of the calls free.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from time import monotonic, perf_counter

from conch_gateway._trace import Trace

_ABOUT_S = 1.0  # small requests are about for so long after the last one


@dataclass(slots=True)
class Share:
    """One request's part of the clock; when its first call may start, its trace is told how long it waited."""

    trace: Trace
    tag: float
    weight: int
    large: bool
    began: float

    def advance(self, tokens: int) -> float:
        """Return the tag of the request's next call."""
        self.tag += tokens * self.weight
        return self.tag


@dataclass(slots=True, eq=False)
class Ticket:
    """A call's place in the queue; `start` is called when its turn has come, if it still waits then."""

    share: Share
    tag: float
    start: Callable[[], None]
    waits: bool = True


class Turns:
    """Hands out turns for at most `calls` calls at a time; belongs to one event loop."""

    def __init__(self, calls: int) -> None:
        self._calls = calls
        self._calls_beside_small = max(1, calls // 2)
        self._clock = 0.0
        self._numbers = count()
        self._requests: Counter[str] = Counter()
        self._under_way = {True: 0, False: 0}  # by large or not, as the queues
        self._queues: dict[bool, list[tuple[float, int, Ticket]]] = {True: [], False: []}
        self._small_at = float("-inf")

    @contextmanager
    def share(self, trace: Trace, *, large: bool) -> Iterator[Share]:
        """Count a request among its caller's until it is done; its calls take their tags from the share."""
        caller = trace.caller
        self._requests[caller] += 1
        try:
            yield Share(trace, self._clock, self._requests[caller], large, perf_counter())
        finally:
            self._requests[caller] -= 1
            if not self._requests[caller]:
                del self._requests[caller]

    def queue(self, share: Share, tokens: int, start: Callable[[], None]) -> Ticket:
        """Put a call into the queue. Follow with `grant` when all calls of the request are in it."""
        ticket = Ticket(share, share.advance(tokens), start)
        heappush(self._queues[share.large], (ticket.tag, next(self._numbers), ticket))
        if not share.large:
            self._small_at = monotonic()
        return ticket

    def grant(self) -> None:
        """Start what may start."""
        while (ticket := self._next()) is not None:
            share = ticket.share
            self._clock = max(self._clock, ticket.tag)
            self._under_way[share.large] += 1
            if share.trace.queue_s is None:
                share.trace.queue_s = perf_counter() - share.began
            ticket.start()
            ticket.waits = False

    def release(self, *, large: bool) -> None:
        """End the turn of a call."""
        self._under_way[large] -= 1
        self.grant()

    @asynccontextmanager
    async def turn(self, share: Share, tokens: int) -> AsyncIterator[None]:
        """Wait for a turn, for a call that shares nothing with others, and hold it inside the block."""
        come = asyncio.Event()
        ticket = self.queue(share, tokens, come.set)
        self.grant()
        try:
            await come.wait()
            yield
        finally:
            if ticket.waits:
                ticket.waits = False
            else:
                self.release(large=share.large)

    def _next(self) -> Ticket | None:
        if sum(self._under_way.values()) >= self._calls:
            return None
        heads = [queue for large, queue in self._queues.items() if self._may_start(large) and _drop_gone(queue)]
        return heappop(min(heads))[-1] if heads else None

    def _may_start(self, large: bool) -> bool:  # noqa: FBT001 - a key of the queues
        if not large or monotonic() - self._small_at > _ABOUT_S:
            return True
        return self._under_way[True] < self._calls_beside_small


def _drop_gone(queue: list[tuple[float, int, Ticket]]) -> bool:
    """Take those from the queue's head that do not wait any more; return whether anyone is left."""
    while queue and not queue[0][-1].waits:
        heappop(queue)
    return bool(queue)
