"""Background tasks: every failure is logged, and a repeated task goes on after one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import anyio
from tenacity import AsyncRetrying, RetryCallState, wait_exponential

_log = logging.getLogger("conch_gateway")
_AGAIN_S = 5.0
Result = TypeVar("Result")


def start(work: Coroutine[Any, Any, Result], name: str) -> asyncio.Task[Result]:
    """Start a task on the running loop; its failure is logged, whoever else looks at its result."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_log_failure)
    return task


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and return when all have ended.

    They are cancelled again and again: before Python 3.11 one cancellation is lost if it comes together with the end of
    a time-out (https://github.com/agronholm/anyio/issues/1214).
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_S)


async def repeat(
    step: Callable[[], Awaitable[None]],
    every_s: float,
    name: str,
    *,
    longest_s: float = 0.0,
    soon: asyncio.Event | None = None,
) -> None:
    """Do something every `every_s` seconds until cancelled, and sooner whenever `soon` is set.

    After failures in a row the pauses double, up to `longest_s`. A failure is logged, unless it is the last one again.
    """
    longest_s, soon = max(every_s, longest_s), soon or asyncio.Event()
    pauses = wait_exponential(multiplier=every_s, max=longest_s)
    while True:
        failures = _Failures(f"{name} failed and is tried again within {longest_s:g} s")
        await AsyncRetrying(wait=pauses, before_sleep=failures.log)(step)
        with anyio.move_on_after(every_s):
            await soon.wait()
        soon.clear()


class _Failures:
    """Failures in a row of one thing."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._logged = ""

    def log(self, attempt: RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome is not None else None
        if error is not None and repr(error) != self._logged:
            self._logged = repr(error)
            _log_error(self._what, error)


def _log_failure(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _log_error(f"{task.get_name()} failed", error)


def _log_error(what: str, error: BaseException) -> None:
    """Log the message of an error, and the traceback of one that nobody foresaw."""
    foreseen = type(error).__module__.startswith("conch_")
    _log.error("%s: %s", what, error, exc_info=None if foreseen else error)
