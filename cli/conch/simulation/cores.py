"""Processor cores that computations share equally, like the kernel's scheduler."""

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
        slowdown: Factor on the time of a computation while all cores are busy, because they share caches, memory and,
            as hyper-threads, arithmetic units. It is interpolated for fewer busy cores.
    """

    def __init__(self, cores: int, slowdown: float = 1.0) -> None:
        self._cores = cores
        self._slowdown = slowdown
        self._jobs: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()
        self._done_s = 0.0  # work of a computation that had run since the beginning
        self._noted_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.busy_s = 0.0

    @property
    def are_busy(self) -> bool:
        """Whether all cores are busy, so that a thread that wakes up waits for one."""
        return len(self._jobs) >= self._cores

    async def run(self, work_s: float) -> None:
        """Run a computation that takes so many seconds of a core alone. Cancelling the call does not stop it."""
        if work_s <= 0:
            return
        self._advance()
        finished = asyncio.get_running_loop().create_future()
        # All proceed equally fast, so they finish in the order of the total work at which they are done.
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
        due_s = self._jobs[0][0]  # the timer was set for this one, despite rounding
        self._done_s = max(self._done_s, due_s)
        while self._jobs and self._jobs[0][0] <= due_s + _ROUNDING_S:
            finished = heappop(self._jobs)[-1]
            if not finished.done():
                finished.set_result(None)
        if self._jobs:
            self._set_timer()


class Thread:
    """One thread on some cores, such as an event loop: computations run one after another."""

    def __init__(self, cores: Cores) -> None:
        self._cores = cores
        self._free = asyncio.Lock()

    async def run(self, work_s: float) -> None:
        """Run a computation after all earlier ones."""
        async with self._free:
            await self._cores.run(work_s)
