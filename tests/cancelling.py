"""Cancels work in the moment in which what it waits for happens: the cancellation must not be lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# What happens passes through so many rounds of the event loop at most, until who awaits it goes on.
ROUNDS = range(8)


async def cancelled(work: Awaitable[object], happens: Callable[[], object], rounds: int) -> None:
    """Cancel `work` so many rounds of the event loop after `happens` was called; it has then ended, as cancelled
    unless it had ended before."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    happens()
    for _ in range(rounds):
        await asyncio.sleep(0)
    accepted = task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled() is accepted, task
