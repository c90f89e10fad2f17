"""Claims lines of batches, computes many at once in the background, and stores their answers together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from conch_gateway.background import start
from conch_gateway.batches.lines import LEASE_S, MOST_LARGE, Answered, Line, Lines, Outcome, PutOff
from conch_gateway.batches.pace import Pace, Resting

_MOST_BYTES = 8 * 2**20  # of lines that are claimed at once
_MOST_UNSTORED_BYTES = 32 * 2**20  # of answers; with more, no line is started


class Runner:
    """The lines that this gateway computes.

    Args:
        lines: the lines of all batches.
        compute: computes a line; see `attempts`.
        resting: returns the owners and batches whose lines have to wait.
        pace: how many lines are computed at once.

    Attributes:
        results: number of lines so far, by result.
    """

    def __init__(
        self,
        lines: Lines,
        compute: Callable[[Line], Coroutine[Any, Any, Outcome]],
        resting: Callable[[], Resting],
        pace: Pace,
    ) -> None:
        self._lines = lines
        self._compute = compute
        self._resting = resting
        self.pace = pace
        self.results = {"completed": 0, "failed": 0, "put off": 0}
        self._running: dict[asyncio.Task[Outcome], Line] = {}
        self._next: Line | None = None  # waits until no other line is computed
        self._ended = asyncio.Event()
        self._outcomes: list[Outcome] = []
        self._unstored_bytes = 0
        self._has_outcomes = asyncio.Event()

    @property
    def running(self) -> int:
        """Number of lines that are being computed."""
        return len(self._running)

    async def fill(self) -> None:
        """Claim and start lines as long as there are any."""
        while not self.pace.pause_s:
            large = sum(line.large for line in self._running.values())  # these take no places of others
            free = self.pace.most - (self.running - large)
            # Several at a time, because each claim is a transaction.
            if free < max(1, self.pace.most // 4) or self._unstored_bytes > _MOST_UNSTORED_BYTES:
                await self._end_of_one()
                continue
            claimed = await self._lines.claim(
                free, _MOST_BYTES, most_large=max(0, MOST_LARGE - large), without=self._resting()
            )
            if not claimed:
                return
            if claimed[0].crashes:
                await self._compute_alone(claimed[0])
                continue
            for line in claimed:
                self._start(line)
                # One at a time: starting all of them at once would block the event loop for too long.
                await asyncio.sleep(0)

    async def settle(self) -> None:
        """Wait for answers and store them, those of many lines in one transaction."""
        await self._has_outcomes.wait()
        outcomes, self._outcomes = self._outcomes, []
        self._has_outcomes.clear()
        try:
            await self._lines.settle(outcomes)
        except BaseException:
            self._outcomes = [*outcomes, *self._outcomes]
            self._has_outcomes.set()
            raise
        self._unstored_bytes -= sum(len(one.content) for one in outcomes if isinstance(one, Answered))
        self._ended.set()

    async def hold(self) -> None:
        """Renew the claims of lines that are being computed or whose answers are not stored yet."""
        held = [*self._running.values(), *(outcome.line for outcome in self._outcomes)]
        if self._next is not None:
            held.append(self._next)
        if held:
            await self._lines.renew(held)

    async def end_late(self) -> None:
        """Cancel running lines of batches that have ended, expired or were cancelled."""
        if self._running:
            over = await self._lines.over({line.batch_id for line in self._running.values()})
            for task, line in self._running.items():
                if line.batch_id in over:
                    task.cancel()

    async def stop(self) -> None:
        """Cancel all lines, store the answers so far, and release the claims of the others."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._outcomes:
            await self.settle()
        await self._lines.release()

    async def _compute_alone(self, line: Line) -> None:
        self._next = line
        try:
            while self._running:
                await self._end_of_one()
            self._start(line)
        finally:
            self._next = None
        while self._running:
            await self._end_of_one()

    async def _end_of_one(self) -> None:
        """Wait until a line has ended, or answers have been stored."""
        self._ended.clear()
        await self._ended.wait()

    def _start(self, line: Line) -> None:
        task = start(self._compute(line), "a line of a batch")
        self._running[task] = line
        # A callback, as a task that is cancelled before its first step never enters its body.
        task.add_done_callback(self._note)

    def _note(self, task: asyncio.Task[Outcome]) -> None:
        line = self._running.pop(task)
        if task.cancelled():
            outcome: Outcome = PutOff(line)
        elif task.exception() is not None:
            outcome = PutOff(line, LEASE_S, tried=True)
        else:
            outcome = task.result()
        if isinstance(outcome, Answered):
            self._unstored_bytes += len(outcome.content)
            self.results["failed" if outcome.failed else "completed"] += 1
        elif not task.cancelled():
            self.results["put off"] += 1
        self._outcomes.append(outcome)
        self._has_outcomes.set()
        self._ended.set()
