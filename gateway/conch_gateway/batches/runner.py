"""Claims lines of batches, computes many at once in the background, and stores their answers together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import accumulate
from typing import Any

import anyio

from conch_gateway.background import start
from conch_gateway.batches.lines import LARGE_BYTES, LEASE_S, MOST_LARGE, Answered, Line, Lines, Outcome, PutOff
from conch_gateway.batches.pace import Pace, Resting

_MOST_BYTES = LARGE_BYTES  # of lines that are claimed at once: what batches take turns by
_MOST_UNSTORED_BYTES = 32 * 2**20  # of answers; with more, no line is started
_STORED, _STORED_BYTES = 1000, 8 * 2**20  # answers in one transaction, in which one may be larger
_LOOK_S = 0.5  # for lines of other batches while one is in doubt


class Runner:
    """The lines that this gateway computes.

    A line at which a server has failed is in doubt. It is computed alone, once its model has computed another text
    beside the other lines: a model that hangs is to hold back none but the batch of that line.

    Args:
        lines: the lines of all batches.
        compute: computes a line; see `attempts`.
        control: has the model of a line compute another text; returns that the line is put off if it cannot.
        resting: returns the owners and batches whose lines have to wait.
        pace: how many lines are computed at once.

    Attributes:
        results: number of lines so far, by result.
    """

    def __init__(
        self,
        lines: Lines,
        compute: Callable[[Line], Coroutine[Any, Any, Outcome]],
        control: Callable[[Line], Coroutine[Any, Any, PutOff | None]],
        resting: Callable[[], Resting],
        pace: Pace,
    ) -> None:
        self._lines = lines
        self._compute = compute
        self._control = control
        self._resting = resting
        self.pace = pace
        self.results = {"completed": 0, "failed": 0, "put off": 0}
        self._running: dict[asyncio.Task[Outcome], Line] = {}
        self._in_doubt: Line | None = None
        self._starting = asyncio.Lock()  # a line that is computed alone holds it
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
            # Large lines, and one in doubt, take no places of others.
            large = sum(line.large for line in self._running.values())
            placed = sum(not line.large and line is not self._in_doubt for line in self._running.values())
            free = self.pace.most - placed
            # Several at a time, because each claim is a transaction.
            if free < max(1, self.pace.most // 4) or self._unstored_bytes > _MOST_UNSTORED_BYTES:
                await self._end_of_one()
                continue
            async with self._starting:
                claimed = await self._claim(free, max(0, MOST_LARGE - large))
                for line in claimed:
                    self._start(line)
                    # One at a time: starting all of them at once would block the event loop for too long.
                    await asyncio.sleep(0)
            if claimed:
                continue
            if self._in_doubt is None:
                return
            with anyio.move_on_after(_LOOK_S):
                await self._end_of_one()

    async def settle(self) -> None:
        """Wait for answers and store them, those of many lines in one transaction."""
        await self._has_outcomes.wait()
        ends = accumulate(map(_bytes_of, self._outcomes[:_STORED]))
        most = max(1, sum(end <= _STORED_BYTES for end in ends))
        outcomes, self._outcomes = self._outcomes[:most], self._outcomes[most:]
        if not self._outcomes:
            self._has_outcomes.clear()
        try:
            await self._lines.settle(outcomes)
        except BaseException:
            self._outcomes = [*outcomes, *self._outcomes]
            self._has_outcomes.set()
            raise
        self._unstored_bytes -= sum(map(_bytes_of, outcomes))
        self._ended.set()

    async def hold(self) -> None:
        """Renew the claims of lines that are being computed or whose answers are not stored yet."""
        held = [*self._running.values(), *(outcome.line for outcome in self._outcomes)]
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
        while self._outcomes:
            await self.settle()
        await self._lines.release()

    async def _claim(self, most: int, most_large: int) -> list[Line]:
        """Claim lines that may be started now: while one is in doubt, none of its batch and no other such."""
        resting, doubted = self._resting(), self._in_doubt
        if doubted is not None:
            resting = resting._replace(batches=resting.batches | {doubted.batch_id})
        return await self._lines.claim(
            most, _MOST_BYTES, most_large=most_large, in_doubt=doubted is None, without=resting
        )

    async def _compute_alone(self, line: Line) -> Outcome:
        """Compute a line that is in doubt, unless its model fails at another text."""
        if (put_off := await self._control(line)) is not None:
            return put_off
        async with self._starting:
            while self.running > 1:
                await self._end_of_one()
            return await self._compute(line)

    async def _end_of_one(self) -> None:
        """Wait until a line has ended, or answers have been stored."""
        self._ended.clear()
        await self._ended.wait()

    def _start(self, line: Line) -> None:
        if line.crashes:
            self._in_doubt = line
        compute = self._compute_alone if line.crashes else self._compute
        task = start(compute(line), "a line of a batch")
        self._running[task] = line
        # A callback, as a task that is cancelled before its first step never enters its body.
        task.add_done_callback(self._note)

    def _note(self, task: asyncio.Task[Outcome]) -> None:
        line = self._running.pop(task)
        if line is self._in_doubt:
            self._in_doubt = None
        if task.cancelled():
            outcome: Outcome = PutOff(line)
        elif task.exception() is not None:
            outcome = PutOff(line, LEASE_S, tried=True)
        else:
            outcome = task.result()
        self._unstored_bytes += _bytes_of(outcome)
        if isinstance(outcome, Answered):
            self.results["failed" if outcome.failed else "completed"] += 1
        elif not task.cancelled():
            self.results["put off"] += 1
        self._outcomes.append(outcome)
        self._has_outcomes.set()
        self._ended.set()


def _bytes_of(outcome: Outcome) -> int:
    return len(outcome.content) if isinstance(outcome, Answered) else 0
