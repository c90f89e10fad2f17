"""Computes a line once, and decides whether the result is its answer or the line is tried again later.

A line may have caused the failure of a server. It is then computed again alone, right after the same model has computed
another text, so that a further failure can be attributed to the line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import inf
from random import uniform
from time import monotonic, perf_counter
from typing import Any

from conch_client import DeadlineExceededError, ModelReplacedError, OverloadedError, UnavailableError

from conch_gateway.auth.keys import Key
from conch_gateway.batches.computing import Computing
from conch_gateway.batches.lines import LEASE_S, Answered, Line, Outcome, PutOff, output_line
from conch_gateway.batches.pace import Pace, Resting, Rests
from conch_gateway.errors import (
    CapacityError,
    CrashError,
    DeadlineError,
    NotStoredError,
    UnauthenticatedError,
    UpstreamError,
    problem_of,
)
from conch_gateway.scheduling.sizes import CHARACTERS_PER_TOKEN
from conch_gateway.telemetry.request import RequestContext, Usage

_log = logging.getLogger("conch_gateway")
_TRIED_AGAIN = frozenset({429, 502, 503, 504})
_FAILURES = (UnavailableError, UpstreamError, DeadlineExceededError, DeadlineError)  # of a server
_MOST_CRASHES = 3
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, LEASE_S  # before a line is tried again
_SHORTEST_REST_S = 2.0  # of an owner without tokens, so that lines are not claimed in vain too often


class Attempts:
    """Computes lines of all owners.

    Args:
        computing: endpoints, keys and quotas.
        pace: receives how long lines waited, and which were refused.
        clock: measures how long owners and batches have to wait.
    """

    def __init__(self, computing: Computing, pace: Pace, clock: Callable[[], float] = monotonic) -> None:
        self._computing = computing
        self._pace = pace
        self._rests = Rests(clock)

    def resting(self) -> Resting:
        """Return the owners whose keys have no tokens to spare, and the batches whose servers are away or busy."""
        return self._rests.now()

    async def outcome(self, line: Line) -> Outcome:
        """Compute a line, one that is in doubt right after a control; return its answer, or that it is tried later."""
        key = self._computing.holder(line.owner)
        if key is None:
            return self._failed(line, UnauthenticatedError(f"the API key {line.owner!r} of this batch was revoked"), [])
        if line.content is None:
            return self._failed(line, NotStoredError("the input file of this batch was deleted"), [])
        if rest_s := self._computing.quota.spare_in_s(key):
            self._rests.rest(line.owner, min(max(rest_s, _SHORTEST_REST_S), _LONGEST_PAUSE_S))
            return PutOff(line)
        if line.in_doubt and (put_off := await self.control(line)) is not None:
            return put_off
        return await self._computed(line, line.content, key)

    async def control(self, line: Line) -> PutOff | None:
        """Have the model of a line compute another text; return that the line is put off if it cannot."""
        key = self._computing.holder(line.owner)
        if key is None or line.content is None:  # then no model is needed for its answer
            return None
        endpoint = self._computing.endpoints[line.endpoint]
        try:
            await endpoint.answer(endpoint.control(line.content), _context(line, key, []))
        except Exception as error:  # noqa: BLE001 - errors of the line itself appear when it is computed
            status = problem_of(error).status
            if status in _TRIED_AGAIN or status >= 500:
                return self._put_off(line, error)
        return None

    async def _computed(self, line: Line, content: bytes, key: Key) -> Outcome:
        usages = list[Usage]()
        try:
            # Counted now, so that lines that begin together do not all find the same tokens to spare.
            with self._computing.quota.expecting(key, len(content) // CHARACTERS_PER_TOKEN):
                body = await self._computing.endpoints[line.endpoint].answer(content, _context(line, key, usages))
            return self._answered(line, 200, body, usages, None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this line's answer
            return self._failed(line, error, usages)
        finally:
            self._computing.quota.spend(key, sum(usage.tokens for usage in usages))

    def _failed(self, line: Line, error: Exception, usages: Sequence[Usage]) -> Outcome:
        problem, crashed = problem_of(error), _is_crash(error)
        if crashed and line.crashes + 1 >= _MOST_CRASHES:
            error = CrashError(
                f"the server of the model ended, failed or did not answer each of the {_MOST_CRASHES} times that "
                "it computed this line, though before all but the first it had just computed another text; divide the "
                "line to find the text at fault"
            )
            problem = problem_of(error)
        elif problem.status in _TRIED_AGAIN:
            return self._put_off(line, error, crashed=crashed)
        if problem.status >= 500:
            _log_failure(line, error, unforeseen=problem.code == "internal_error")
        body = self._computing.endpoints[line.endpoint].error_body(problem)
        return self._answered(line, problem.status, body, usages, error)

    def _put_off(self, line: Line, error: Exception, *, crashed: bool = False) -> PutOff:
        least_s = max(problem_of(error).retry_after_s or 0.0, _SHORTEST_PAUSE_S)
        delay_s = max(least_s, float(2 ** min(line.tries, 6)))
        if isinstance(error, (CapacityError, OverloadedError)):
            self._pace.refused(delay_s)  # all lines want what is full
        else:
            self._rests.failed(line.batch_id, least_s, _LONGEST_PAUSE_S)
        # Spread: lines that failed together, before several gateways maybe, should not meet again.
        spread_s = delay_s * uniform(1.0, 1.5)  # noqa: S311
        return PutOff(line, min(spread_s, _LONGEST_PAUSE_S), tried=True, crashed=crashed)

    def _answered(
        self, line: Line, status: int, body: Any, usages: Sequence[Usage], error: Exception | None
    ) -> Answered:
        response = {"status_code": status, "request_id": _request_id(line), "body": body}
        content = output_line(line.custom_id, response=response)
        for usage in usages:
            self._computing.count(usage, error)
        self._pace.answered(max((usage.queue_s or 0.0 for usage in usages), default=None))
        self._rests.answered(line.batch_id)
        return Answered(line, content, failed=error is not None, tokens=sum(usage.tokens for usage in usages))


def _is_crash(error: Exception) -> bool:
    """Whether the server may have failed, or not have answered, because of the line."""
    return isinstance(error, _FAILURES) and not isinstance(error, ModelReplacedError)


def _context(line: Line, key: Key, usages: list[Usage]) -> RequestContext:
    request_id = _request_id(line)
    return RequestContext(request_id, line.owner, key, inf, None, perf_counter(), usages.append, background=True)


def _request_id(line: Line) -> str:
    return f"{line.batch_id}-{line.number}"


def _log_failure(line: Line, error: Exception, *, unforeseen: bool) -> None:
    reason = f"{type(error).__name__}: {error}"
    _log.error("line %s failed: %s", _request_id(line), reason, exc_info=error if unforeseen else None)
