"""Claims lines of batches, computes many at once in the background, and stores their answers together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from itertools import accumulate
from time import monotonic
from typing import Any, NamedTuple

import anyio

from conch_gateway.background import end_all, start
from conch_gateway.batches.lines import LARGE_BYTES, LEASE_S, MOST_LARGE, Answered, Line, Lines, Outcome, PutOff
from conch_gateway.batches.pace import Pace, Resting

_MOST_BYTES = LARGE_BYTES  # of lines that are claimed at once: what batches take turns by
_MOST_UNSTORED_BYTES = 32 * 2**20  # of answers; with more, no line is started
_STORED, _STORED_BYTES = 1000, 8 * 2**20  # answers in one transaction, in which one may be larger
_CLAIM_S = 0.05  # between two claims, each of which is a transaction
_LOOK_S = 0.5  # for what may have changed although no line has ended
_ALONE_S = 5.0  # for which other lines wait for one that is computed alone, and it for them


class Runner:
    """The lines that this gateway computes.

    A model that hangs holds up the batches of its own lines only. So a batch gets places as long as it has fewer than
    are free. A line at which a server has failed is in doubt: others of its batch wait for it, and those of all batches
    only while it is computed alone, after its model has computed another text, and no longer than `_ALONE_S`.

    Args:
        lines: the lines of all batches.
        compute: computes a line; see `attempts`.
        control: has the model of a line compute another text; returns that the line is put off if it cannot.
        resting: returns the owners and batches whose lines have to wait.
        pace: how many lines are computed at once.

    Attributes:
        results: number of lines so far, by result.
        has_ended: set when all that was begun has been stored, so that batches may end.
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
        self._running: dict[asyncio.Task[Outcome], _Begun] = {}
        self._alone: Line | None = None
        self._alone_until = 0.0
        self._starting = asyncio.Lock()
        self._ended = asyncio.Event()
        self._outcomes: list[Outcome] = []
        self._unstored_bytes = 0
        self._has_outcomes = asyncio.Event()
        self.has_ended = asyncio.Event()

    @property
    def running(self) -> int:
        """Number of lines that are being computed."""
        return len(self._running)

    async def fill(self) -> None:
        """Claim and start lines as long as there are any."""
        while not self.pace.pause_s:
            lines = [begun.line for begun in self._running.values()]
            large = Counter(line.batch_id for line in lines if line.large)
            placed = Counter(line.batch_id for line in lines if not line.large and not line.in_doubt)
            free, free_large = self.pace.most - placed.total(), MOST_LARGE - large.total()
            if free <= 0 or self._one_is_alone or self._unstored_bytes > _MOST_UNSTORED_BYTES:
                await self._end_of_one()
                continue
            held = Resting(
                batches=_with_places(placed, free) | {line.batch_id for line in lines if line.in_doubt},
                large=_with_places(large, free_large),
            )
            if not await self._start_some(max(1, free // 2), int(free_large > 0), held):
                if not held.batches:
                    return
                await self._end_of_one()
            await asyncio.sleep(_CLAIM_S)

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
        if not (self._running or self._outcomes):
            self.has_ended.set()

    async def hold(self) -> None:
        """Renew the claims of lines that are being computed or whose answers are not stored yet."""
        held = [*(begun.line for begun in self._running.values()), *(outcome.line for outcome in self._outcomes)]
        if held:
            await self._lines.renew(held)

    async def end_late(self) -> None:
        """Cancel running lines of batches that have ended, expired or were cancelled."""
        if self._running:
            over = await self._lines.over({begun.line.batch_id for begun in self._running.values()})
            for task, begun in self._running.items():
                if begun.line.batch_id in over:
                    task.cancel()

    async def stop(self) -> None:
        """Cancel all lines, store the answers so far, and release the claims of the others."""
        await end_all(self._running)
        while self._outcomes:
            await self.settle()
        await self._lines.release()

    async def _start_some(self, most: int, most_large: int, held: Resting) -> bool:
        """Claim and start some lines, none of those that are held back; return whether there were any."""
        resting = self._resting()
        async with self._starting:
            claimed = await self._lines.claim(
                most,
                _MOST_BYTES,
                most_large=most_large,
                without=held._replace(owners=resting.owners, batches=held.batches | resting.batches),
            )
            for line in claimed:
                self._start(line)
                # One at a time: starting all of them at once would block the event loop for too long.
                await asyncio.sleep(0)
        return bool(claimed)

    @property
    def _one_is_alone(self) -> bool:
        """Whether no line may begin, since one is computed alone."""
        return self._alone is not None and monotonic() < self._alone_until

    async def _compute_alone(self, line: Line) -> Outcome:
        """Compute a line that is in doubt, unless its model fails at another text."""
        if (put_off := await self._control(line)) is not None:
            return put_off
        while self._one_is_alone:
            await self._end_of_one()
        self._alone, self._alone_until = line, (until := monotonic() + _ALONE_S)
        while monotonic() < until and (self._starting.locked() or self._others_may_end()):
            await self._end_of_one()
        return await self._compute(line)

    def _others_may_end(self) -> bool:
        """Return whether a line is computed that is not in doubt and has not been for so long that it may hang."""
        since = monotonic() - _ALONE_S
        return any(begun.at > since and not begun.line.in_doubt for begun in self._running.values())

    async def _end_of_one(self) -> None:
        """Wait until a line has ended, or answers have been stored, or for a moment."""
        self._ended.clear()
        with anyio.move_on_after(_LOOK_S):
            await self._ended.wait()

    def _start(self, line: Line) -> None:
        compute = self._compute_alone if line.in_doubt else self._compute
        task = start(compute(line), "a line of a batch")
        self._running[task] = _Begun(line, monotonic())
        # A callback, as a task that is cancelled before its first step never enters its body.
        task.add_done_callback(self._note)

    def _note(self, task: asyncio.Task[Outcome]) -> None:
        line = self._running.pop(task).line
        if line is self._alone:
            self._alone = None
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


class _Begun(NamedTuple):
    """A line that is being computed, and since when."""

    line: Line
    at: float


def _with_places(placed: Counter[str], free: int) -> frozenset[str]:
    """Return the batches that have at least as many places as are free."""
    return frozenset(batch_id for batch_id, places in placed.items() if places >= free)


def _bytes_of(outcome: Outcome) -> int:
    return len(outcome.content) if isinstance(outcome, Answered) else 0
