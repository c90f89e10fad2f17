"""Processor cores as a kernel shares them: a thread wakes up on one, and is moved to another only at a tick.

So a thread may share a busy core with a long computation while another core is idle. That costs both of them time, and
is why latencies on one machine grow long before its cores are busy all the time.
"""

from __future__ import annotations

import asyncio
from heapq import heapify, heappop, heappush
from itertools import count
from random import Random

_ROUNDING_S = 1e-12
TICK_S = 0.004
"""Seconds between two ticks of Linux with 250 Hz, which is its default."""

_Job = tuple[float, int, asyncio.Future[None]]


class _Core:
    """One core, whose computations proceed equally fast.

    Attributes:
        jobs: Heap of its computations, by the work at which they are done.
        done_s: Work of a computation that had run since the beginning.
    """

    __slots__ = ("done_s", "jobs")

    def __init__(self) -> None:
        self.jobs: list[_Job] = []
        self.done_s = 0.0

    def add(self, work_s: float, number: int, finished: asyncio.Future[None]) -> None:
        heappush(self.jobs, (self.done_s + work_s, number, finished))

    def take_newest(self) -> tuple[float, int, asyncio.Future[None]]:
        newest = max(self.jobs, key=lambda job: job[1])
        self.jobs.remove(newest)
        heapify(self.jobs)
        return newest[0] - self.done_s, *newest[1:]


class Cores:
    """Cores of one machine.

    Attributes:
        busy_s: Seconds of cores used so far.

    Args:
        cores: Number of cores.
        slowdown: Factor on the time of a computation while all cores are busy, because they share caches, memory and,
            as hyper-threads, arithmetic units. It is interpolated for fewer busy cores.
        seed: Of random choices.
    """

    def __init__(self, cores: int, slowdown: float = 1.0, seed: int = 0) -> None:
        self._cores = [_Core() for _ in range(cores)]
        self._slowdown = (slowdown - 1) / max(1, cores - 1)
        self._random = Random(seed)  # noqa: S311 - no secret
        self._loop = asyncio.get_running_loop()
        self._numbers = count()
        self._noted_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._tick: asyncio.TimerHandle | None = None
        self.busy_s = 0.0

    @property
    def idle_s(self) -> float:
        """Seconds for which nothing has run; 0 while anything does."""
        return 0.0 if any(core.jobs for core in self._cores) else self._loop.time() - self._noted_at

    async def run(self, work_s: float, home: int | None = None) -> None:
        """Run a computation. Cancelling the call does not stop it.

        Args:
            work_s: Seconds that it takes on a core of its own.
            home: Number of the core on which its thread usually runs.
        """
        if work_s <= 0:
            return
        self._advance()
        finished = self._loop.create_future()
        self._chosen(home).add(work_s, next(self._numbers), finished)
        self._set_timers()
        await finished

    def _chosen(self, home: int | None) -> _Core:
        """Return the core on which a thread wakes up.

        That is its home if it is idle, or another idle one, if there is any, but whoever wakes up the thread still
        occupies one of those that seem to be idle. Otherwise it is the one where the thread was last, which may be any.
        """
        if home is not None and not self._cores[home % len(self._cores)].jobs:
            return self._cores[home % len(self._cores)]
        if len(self._cores) == 1:
            return self._cores[0]
        idle = [core for core in self._cores if not core.jobs]
        return idle[0] if len(idle) > 1 else self._random.choice(self._cores)

    def _advance(self) -> None:
        now = self._loop.time()
        passed_s, self._noted_at = now - self._noted_at, now
        busy = [core for core in self._cores if core.jobs]
        if busy and passed_s:
            self.busy_s += passed_s * len(busy)
            work_s = passed_s / self._slower(len(busy))
            for core in busy:
                core.done_s += work_s / len(core.jobs)

    def _slower(self, busy: int) -> float:
        return 1 + self._slowdown * (busy - 1)

    def _set_timers(self) -> None:
        """Set the timers of the computation that finishes first, and of a tick if a core is idle and another shared."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        busy = [core for core in self._cores if core.jobs]
        if busy:
            left_s = min((core.jobs[0][0] - core.done_s) * len(core.jobs) for core in busy)
            self._timer = self._loop.call_later(max(0.0, left_s) * self._slower(len(busy)), self._finish)
        if self._tick is None and len(busy) < len(self._cores) and any(len(core.jobs) > 1 for core in busy):
            self._tick = self._loop.call_later(self._random.uniform(0, TICK_S), self._balance)

    def _finish(self) -> None:
        self._timer = None
        self._advance()
        for core in self._cores:
            while core.jobs and core.jobs[0][0] <= core.done_s + _ROUNDING_S:
                finished = heappop(core.jobs)[-1]
                if not finished.done():
                    finished.set_result(None)
        self._set_timers()

    def _balance(self) -> None:
        """Move computations that share a core to idle ones."""
        self._tick = None
        self._advance()
        for idle in self._cores:
            fullest = max(self._cores, key=lambda core: len(core.jobs))
            if not idle.jobs and len(fullest.jobs) > 1:
                idle.add(*fullest.take_newest())
        self._set_timers()


class Thread:
    """One thread on some cores, such as an event loop: computations run one after another.

    Attributes:
        cores: These cores.
    """

    def __init__(self, cores: Cores) -> None:
        self.cores = cores
        self._free = asyncio.Lock()

    async def run(self, work_s: float) -> None:
        """Run a computation after all earlier ones."""
        async with self._free:
            await self.cores.run(work_s)
