"""Computes lines of batches in the background, on the same path as requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from math import inf
from time import perf_counter
from typing import Any

from conch_gateway.background import start
from conch_gateway.batches.computing import Computing
from conch_gateway.batches.lines import Answered, Line, Lines, Outcome, PutOff, output_line
from conch_gateway.batches.pace import Pace
from conch_gateway.errors import DatabaseError, UnauthenticatedError, problem_of
from conch_gateway.scheduling.sizes import CHARACTERS_PER_TOKEN
from conch_gateway.telemetry.request import RequestContext, Usage

_log = logging.getLogger("conch_gateway")
_TRIED_AGAIN = frozenset({429, 502, 503})
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0  # until a line is tried again
_MOST_BYTES = 8 * 2**20  # of lines that are claimed at once
_MOST_UNSTORED_BYTES = 32 * 2**20  # of answers; with more, no line is started
_QUOTA_PAUSE_S = 2.0


class Runner:
    """Claims lines, computes many at once, and stores their answers together.

    Args:
        lines: the lines of all batches.
        computing: how a line is computed.
        pace: how many lines are computed at once.

    Attributes:
        results: number of lines so far, by result.
    """

    def __init__(self, lines: Lines, computing: Computing, pace: Pace) -> None:
        self._lines = lines
        self._computing = computing
        self.pace = pace
        self.results = {"completed": 0, "failed": 0, "put off": 0}
        self._running: dict[asyncio.Task[Outcome], Line] = {}
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
        while True:
            if self.pace.pause_s:
                return
            free = self.pace.most - self.running
            # Several at a time, because each claim is a transaction.
            if free < max(1, self.pace.most // 4) or self._unstored_bytes > _MOST_UNSTORED_BYTES:
                self._ended.clear()
                await self._ended.wait()
                continue
            claimed = await self._lines.claim(free, _MOST_BYTES)
            if not claimed:
                return
            for line in claimed:
                task = start(self._outcome(line), "a line of a batch")
                self._running[task] = line
                # In a callback: a task that is cancelled before its first step never runs its body.
                task.add_done_callback(self._note)
                # One at a time: starting all of them at once would block the event loop for too long.
                await asyncio.sleep(0)

    async def settle(self) -> None:
        """Wait for answers and store them, those of many lines in one transaction."""
        await self._has_outcomes.wait()
        outcomes, self._outcomes = self._outcomes, []
        self._has_outcomes.clear()
        try:
            await self._lines.settle(outcomes)
        except BaseException as error:
            self._outcomes = [*outcomes, *self._outcomes]
            self._has_outcomes.set()
            if isinstance(error, DatabaseError):  # try again after a pause
                await asyncio.sleep(_SHORTEST_PAUSE_S)
            raise
        self._unstored_bytes -= sum(len(one.content) for one in outcomes if isinstance(one, Answered))
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
        if self._outcomes:
            await self.settle()
        await self._lines.release()

    async def _outcome(self, line: Line) -> Outcome:
        key, usages = self._computing.holder(line.owner), list[Usage]()
        if key is None:
            return self._failed(line, UnauthenticatedError(f"the API key {line.owner!r} of this batch was revoked"), [])
        if not self._computing.quota.has_spare(key):
            return PutOff(line, _QUOTA_PAUSE_S)
        # Counted now, so that lines that start together do not all use the same tokens; corrected below.
        expected = len(line.content) // CHARACTERS_PER_TOKEN
        self._computing.quota.spend(key, expected)
        context = RequestContext(
            _request_id(line), line.owner, key, inf, None, perf_counter(), usages.append, background=True
        )
        try:
            body = await self._computing.endpoints[line.endpoint].answer(line.content, context)
        except Exception as error:  # noqa: BLE001 - any error is the answer to this line
            return self._failed(line, error, usages)
        else:
            return self._answered(line, 200, body, usages, None)
        finally:
            self._computing.quota.spend(key, sum(usage.tokens for usage in usages) - expected)

    def _failed(self, line: Line, error: Exception, usages: Sequence[Usage]) -> Outcome:
        problem = problem_of(error)
        if problem.status in _TRIED_AGAIN:
            delay_s = max(problem.retry_after_s or 0.0, _SHORTEST_PAUSE_S, float(2 ** min(line.tries, 6)))
            self.pace.refused(delay_s)
            return PutOff(line, min(delay_s, _LONGEST_PAUSE_S))
        if problem.status >= 500:
            _log_failure(line, error, unforeseen=problem.code == "internal_error")
        body = self._computing.endpoints[line.endpoint].error_body(problem)
        return self._answered(line, problem.status, body, usages, error)

    def _answered(
        self, line: Line, status: int, body: Any, usages: Sequence[Usage], error: Exception | None
    ) -> Answered:
        for usage in usages:
            self._computing.count(usage, error)
        self.pace.answered(max((usage.queue_s or 0.0 for usage in usages), default=None))
        response = {"status_code": status, "request_id": _request_id(line), "body": body}
        content = output_line(line.custom_id, response=response)
        return Answered(line, content, failed=error is not None, tokens=sum(usage.tokens for usage in usages))

    def _note(self, task: asyncio.Task[Outcome]) -> None:
        line = self._running.pop(task)
        if task.cancelled():
            outcome: Outcome = PutOff(line, 0)
        else:
            outcome = PutOff(line, _LONGEST_PAUSE_S) if task.exception() is not None else task.result()
        if isinstance(outcome, Answered):
            self._unstored_bytes += len(outcome.content)
            self.results["failed" if outcome.failed else "completed"] += 1
        elif outcome.delay_s:
            self.results["put off"] += 1
        self._outcomes.append(outcome)
        self._has_outcomes.set()
        self._ended.set()


def _request_id(line: Line) -> str:
    return f"{line.batch_id}-{line.number}"


def _log_failure(line: Line, error: Exception, *, unforeseen: bool) -> None:
    reason = f"{type(error).__name__}: {error}"
    _log.error("line %s failed: %s", _request_id(line), reason, exc_info=error if unforeseen else None)
