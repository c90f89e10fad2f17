"""An event loop whose clock is simulated: coroutines that wait go on at once, in the order of the times they wait for.

Whatever waits by asyncio runs on it unchanged, the gateway's scheduling above all. Nothing in it may wait for what is
outside, a socket or a thread: the loop would never hear of it, and says so.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Result = TypeVar("Result")


class _Selector(selectors.SelectSelector):
    """Where a loop waits for sockets until the next timer is due: this one moves the clock there instead."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("the simulation waits for something that never happens")
        self.now_s += max(0.0, timeout)
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._simulated = _Selector()
        super().__init__(self._simulated)

    def time(self) -> float:
        return self._simulated.now_s


def simulated(main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Return what a coroutine returns that runs in simulated time, which begins at 0; its tasks end with it."""
    loop = _Loop()

    async def begin() -> Result:
        return await main()  # called on the loop, so that what it makes can ask for the time

    try:
        return loop.run_until_complete(begin())
    finally:
        others = asyncio.all_tasks(loop)
        for task in others:
            task.cancel()
        if others:
            loop.run_until_complete(asyncio.gather(*others, return_exceptions=True))
        loop.close()


def now_s() -> float:
    """Return the simulated seconds since the beginning, inside of `simulated`."""
    return asyncio.get_running_loop().time()
