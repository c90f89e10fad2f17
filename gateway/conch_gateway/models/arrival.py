"""Waits for the first Triton while none can be reached, as where an autoscaler starts one for a request that waits."""

from __future__ import annotations

from asyncio import Lock
from collections.abc import Awaitable, Callable
from time import monotonic

import anyio

_EVERY_S = 0.25


class Arrival:
    """Polls whether Triton can be reached, once for all requests that wait; belongs to one event loop.

    Args:
        is_ready: returns whether a Triton can be reached and has a model.
    """

    def __init__(self, is_ready: Callable[[], Awaitable[bool]]) -> None:
        self._is_ready = is_ready
        self._asking = Lock()
        self._asked_at = float("-inf")
        self._ready = False

    async def within(self, seconds: float) -> bool:
        """Return True as soon as Triton can be reached, or False if that takes longer."""
        if seconds > 0:
            with anyio.move_on_after(seconds):
                while True:
                    if await self._look():
                        return True
                    await anyio.sleep(_EVERY_S)
        return False

    async def _look(self) -> bool:
        async with self._asking:
            if monotonic() - self._asked_at >= _EVERY_S:
                self._ready = await self._is_ready()
                self._asked_at = monotonic()
            return self._ready
