"""Whose call to Triton is next: so many are under way at most, and the rest wait here, where their order is decided.

The order is that of self-clocked fair queueing (S. J. Golestani, "A self-clocked fair queueing scheme for broadband
applications", INFOCOM 1994). A flow is what one caller asks for, large requests apart from small ones. A call's tag is
its tokens beyond the tag before it in its flow, or beyond the clock where the flow had run dry; the lowest tag goes
first, and the clock is the tag that went last. So flows advance alike whatever waits in each, within a flow who came
first is done first, and a small request overtakes the large ones of its own caller too.

Calls cannot be interrupted, so order alone does not help who arrives while large requests keep every instance of the
encoder busy. While single short texts are about, large requests leave one instance alone: they have one call less than
there are instances, of which there are half as many as calls. Where there is but one, whoever makes their calls should
make them short.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from time import monotonic, perf_counter

from conch_gateway.scheduling.throughput import Throughput
from conch_gateway.telemetry.trace import Trace

_ABOUT_S = 1.0  # single texts are about for so long after the last one


@dataclass(slots=True)
class Flow:
    """The tag of the last call that a caller has asked for, and how many requests are not done yet."""

    tag: float
    requests: int = 0


@dataclass(slots=True)
class Share:
    """One request's part of a flow; when its first call may start, its trace is told how long it waited."""

    trace: Trace
    flow: Flow
    large: bool
    began: float


@dataclass(slots=True, eq=False)
class Ticket:
    """A call's place in the queue; `start` is called when its turn has come, if it still waits then."""

    share: Share
    tag: float
    start: Callable[[], None]
    waits: bool = True


class Turns:
    """Hands out turns for at most `calls` calls at a time; belongs to one event loop.

    Args:
        calls: that may be under way.
    """

    def __init__(self, calls: int) -> None:
        self._calls = calls
        self._instances = max(1, calls // 2)
        self._clock = 0.0
        self._numbers = count()
        self._flows: dict[tuple[str, bool], Flow] = {}
        self._under_way = {True: 0, False: 0}  # by large or not, as the queues
        self._queues: dict[bool, list[tuple[float, int, Ticket]]] = {True: [], False: []}
        self._single_at = float("-inf")
        self._throughput = Throughput()
        self._full = False

    def fit(self, calls: int) -> None:
        """Let as many calls be under way from now on."""
        if calls != self._calls:
            self._calls, self._instances = calls, max(1, calls // 2)
            self.grant()

    @contextmanager
    def share(self, trace: Trace, *, large: bool, single: bool = False) -> Iterator[Share]:
        """Open a request, whose calls may be queued inside the block.

        Args:
            trace: the request's.
            large: whether it takes several calls.
            single: whether it is a single short text, for which somebody waits.
        """
        if single:
            self._single_at = monotonic()
        flow = self._flows.setdefault((trace.caller, large), Flow(self._clock))
        flow.requests += 1
        try:
            yield Share(trace, flow, large, perf_counter())
        finally:
            flow.requests -= 1
            if not flow.requests:
                del self._flows[trace.caller, large]

    def queue(self, share: Share, tokens: int, start: Callable[[], None]) -> Ticket:
        """Put a call into the queue. Follow with `grant` when all calls of the request are in it."""
        share.flow.tag = max(share.flow.tag, self._clock) + tokens
        ticket = Ticket(share, share.flow.tag, start)
        heappush(self._queues[share.large], (ticket.tag, next(self._numbers), ticket))
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
        full = any(map(_drop_gone, self._queues.values()))
        if full != self._full:
            self._throughput.note(full=self._full)
            self._full = full

    def release(self, *, large: bool, tokens: int) -> None:
        """End the turn of a call that has computed so many tokens; 0 if it failed."""
        self._throughput.note(full=self._full, tokens=tokens)
        self._under_way[large] -= 1
        self.grant()

    def seconds_for(self, tokens: int) -> float | None:
        """Return how long so many tokens take while calls have to wait; None if none had to so far."""
        return self._throughput.seconds_for(tokens)

    @property
    def crowded(self) -> bool:
        """Whether single texts are about and large requests, for want of instances, cannot leave one alone."""
        return self._instances == 1 and self._single_about

    @asynccontextmanager
    async def turn(self, share: Share, tokens: int) -> AsyncIterator[None]:
        """Wait for a turn, for a call that shares nothing with others, and hold it inside the block."""
        come, done = asyncio.Event(), 0
        ticket = self.queue(share, tokens, come.set)
        self.grant()
        try:
            await come.wait()
            yield
            done = tokens
        finally:
            if ticket.waits:
                ticket.waits = False
            else:
                self.release(large=share.large, tokens=done)

    def _next(self) -> Ticket | None:
        if sum(self._under_way.values()) >= self._calls:
            return None
        heads = [queue for large, queue in self._queues.items() if self._may_start(large) and _drop_gone(queue)]
        return heappop(min(heads))[-1] if heads else None

    def _may_start(self, large: bool) -> bool:  # noqa: FBT001 - a key of the queues
        return not large or not self._single_about or self._under_way[True] < max(1, self._instances - 1)

    @property
    def _single_about(self) -> bool:
        return monotonic() - self._single_at <= _ABOUT_S


def _drop_gone(queue: list[tuple[float, int, Ticket]]) -> bool:
    """Take those from the queue's head that do not wait any more; return whether anyone is left."""
    while queue and not queue[0][-1].waits:
        heappop(queue)
    return bool(queue)
