"""Several things at once that succeed or fail as one, and things that take too long."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


async def all_of(work: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run all at once and return their results in order; what one raises, or a cancellation, ends the others."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def cancelled_after(seconds: float, error: Exception) -> Iterator[None]:
    """Cancel the block when the time is up, and raise the error; as `asyncio.timeout`, which Python 3.10 lacks."""
    task, expired = asyncio.current_task(), False

    def expire() -> None:
        nonlocal expired
        expired = task is not None and task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        yield
    except asyncio.CancelledError as cancelled:
        if not expired:
            raise
        raise error from cancelled
    finally:
        timer.cancel()
