"""Background tasks: every failure is logged, and a repeated task goes on after one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from conch_client import ConchError

_log = logging.getLogger("conch_gateway")
Result = TypeVar("Result")


def start(work: Coroutine[Any, Any, Result], name: str) -> asyncio.Task[Result]:
    """Start a task on the running loop; its failure is logged, whoever else looks at its result."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_log_failure)
    return task


async def repeat(step: Callable[[], Awaitable[None]], every_s: float, name: str) -> None:
    """Do something every `every_s` seconds until cancelled; a failure is logged, unless it is the last one again."""
    logged = ""
    while True:
        try:
            await step()
            logged = ""
        except Exception as error:  # noqa: BLE001 - whatever it is, the next one may succeed
            if repr(error) != logged:
                _log_error(f"{name} failed and is tried again every {every_s:g} s", error)
            logged = repr(error)
        await asyncio.sleep(every_s)


def _log_failure(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _log_error(f"{task.get_name()} failed", error)


def _log_error(what: str, error: BaseException) -> None:
    """Log the message of an error of the client's, or the traceback of an unforeseen one."""
    _log.error("%s: %s", what, error, exc_info=None if isinstance(error, ConchError) else error)
