"""A simulated Triton: a queue, and instances that merge calls from its head and run them."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from conch_client import UnavailableError

from conch.simulation.clock import passed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch.simulation.cores import Cores
    from conch.simulation.costs import EngineCosts

_LOST = "the replica ended"


@dataclass(eq=False, slots=True)
class _Call:
    lengths: Sequence[int]
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Replica:
    """A Triton with dynamic batching without delay: a free instance takes as many waiting calls as fit in a run.

    Attributes:
        name: Name of the replica.
        up: Whether it takes calls.
        runs: Number of runs of its instances.
    """

    def __init__(self, name: str, costs: EngineCosts, cores: Cores, home: int = 0) -> None:
        self.name = name
        self.up = True
        self.runs = 0
        self._costs = costs
        self._cores = cores
        self._homes = range(home, home + costs.instances)
        self._free = list(self._homes)
        self._waiting: deque[_Call] = deque()
        self._running: dict[asyncio.Task[None], list[_Call]] = {}

    async def infer(self, lengths: Sequence[int]) -> None:
        """Compute texts of these lengths.

        Raises:
            UnavailableError: It is down, or is killed meanwhile.
        """
        if not self.up:
            raise UnavailableError(_LOST)
        await passed(self._costs.path_s / 2)
        await self._cores.run(self._costs.call_s)
        if not self.up:
            raise UnavailableError(_LOST)
        call = _Call(lengths)
        self._waiting.append(call)
        self._start_runs()
        await call.done
        await passed(self._costs.path_s / 2)

    def end(self) -> None:
        """Stop at once, as if killed: waiting callers get an error."""
        self.up = False
        lost = [*self._waiting, *(call for calls in self._running.values() for call in calls)]
        for task in self._running:
            task.cancel()
        self._waiting.clear()
        self._running.clear()
        for call in lost:
            if not call.done.done():
                call.done.set_exception(UnavailableError(_LOST))

    def begin(self) -> None:
        """Serve again after `end`."""
        self.up, self._free = True, list(self._homes)

    def _start_runs(self) -> None:
        while self._free and self._waiting:
            calls = self._take()
            task = asyncio.get_running_loop().create_task(self._run(calls, heappop(self._free)))
            self._running[task] = calls

    def _take(self) -> list[_Call]:
        calls = [self._waiting.popleft()]
        rows = len(calls[0].lengths)
        while self._waiting and rows + len(self._waiting[0].lengths) <= self._costs.max_rows:
            rows += len(self._waiting[0].lengths)
            calls.append(self._waiting.popleft())
        return calls

    async def _run(self, calls: list[_Call], instance: int) -> None:
        await self._cores.run(self._costs.run_s([length for call in calls for length in call.lengths]), instance)
        task = asyncio.current_task()
        if task is not None and self._running.pop(task, None) is not None:
            self.runs += 1
            heappush(self._free, instance)
            for call in calls:
                if not call.done.done():
                    call.done.set_result(None)
            self._start_runs()
