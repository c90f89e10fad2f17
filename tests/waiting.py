"""Waiting for what happens elsewhere: in other processes, in threads, in tasks."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any

import httpx
import psutil

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PATIENCE_S = 60
"""For what takes a moment on an idle machine."""
POLL_S = 0.02


def until(condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> None:
    """Return when the condition holds; fail when it does not in time. A process or a listener that is not
    there is a no."""
    deadline = time.monotonic() + timeout_s
    while not _holds(condition):
        assert time.monotonic() < deadline, f"the condition did not hold within {timeout_s:g} s"
        time.sleep(POLL_S)


async def eventually(
    condition: Callable[[], object | Awaitable[object]], timeout_s: float = PATIENCE_S, every_s: float = POLL_S
) -> None:
    """Return when the condition holds, which may be awaited; fail when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        holds = condition()
        if await holds if inspect.isawaitable(holds) else holds:
            return
        assert time.monotonic() < deadline, f"the condition did not hold within {timeout_s:g} s"
        await asyncio.sleep(every_s)


def _holds(condition: Callable[[], Any]) -> bool:
    try:
        return bool(condition())
    except (LookupError, psutil.NoSuchProcess, httpx.TransportError):
        return False
