"""Processor cores that computations share: each gets the same part of them, as the kernel's scheduler sees to."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count

_ROUNDING_S = 1e-12


class Cores:
    """Egalitarian processor sharing: n computations on c cores proceed at min(1, c / n) of a core's speed each.

    Attributes:
        busy_s: Seconds of cores used so far.

    Args:
        cores: Number of cores.
        slowdown: How much longer a computation takes while all cores are busy than alone: cores share caches, memory
            and, as hyper-threads, arithmetic units. In between it is interpolated.
    """

    def __init__(self, cores: int, slowdown: float = 1.0) -> None:
        self._cores = cores
        self._slowdown = slowdown
        self._jobs: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()
        self._done_s = 0.0  # work that a computation would have got done since the beginning
        self._noted_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.busy_s = 0.0

    @property
    def are_busy(self) -> bool:
        """Whether whoever wakes up now waits for a core."""
        return len(self._jobs) >= self._cores

    async def run(self, work_s: float) -> None:
        """Compute what takes so many seconds of a core alone. Whoever stops to wait does not stop the computation."""
        if work_s <= 0:
            return
        self._advance()
        finished = asyncio.get_running_loop().create_future()
        # All proceed alike, so they finish in the order of the work that is done by then.
        heappush(self._jobs, (self._done_s + work_s, next(self._numbers), finished))
        self._set_timer()
        await finished

    def _speed(self) -> float:
        jobs = len(self._jobs)
        crowd = min(1.0, (jobs - 1) / max(1, self._cores - 1))
        return min(1.0, self._cores / jobs) / (1 + (self._slowdown - 1) * crowd)

    def _advance(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._jobs:
            self._done_s += (now - self._noted_at) * self._speed()
            self.busy_s += (now - self._noted_at) * min(len(self._jobs), self._cores)
        self._noted_at = now

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left_s = max(0.0, self._jobs[0][0] - self._done_s)
        self._timer = asyncio.get_running_loop().call_later(left_s / self._speed(), self._finish)

    def _finish(self) -> None:
        self._advance()
        self._timer = None
        due_s = self._jobs[0][0]  # whatever rounding says: the timer was set for this one
        self._done_s = max(self._done_s, due_s)
        while self._jobs and self._jobs[0][0] <= due_s + _ROUNDING_S:
            finished = heappop(self._jobs)[-1]
            if not finished.done():
                finished.set_result(None)
        if self._jobs:
            self._set_timer()


class Thread:
    """One thread on some cores, which does one thing after another: an event loop."""

    def __init__(self, cores: Cores) -> None:
        self._cores = cores
        self._free = asyncio.Lock()

    async def run(self, work_s: float) -> None:
        """Compute this after what was asked for before."""
        async with self._free:
            await self._cores.run(work_s)
