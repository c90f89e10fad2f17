"""An event loop with a simulated clock: instead of waiting for a timer, it advances the clock to it.

Code that waits with asyncio runs on it unchanged, such as the gateway's scheduling. It must not wait for sockets or
threads, which cannot wake the loop: if nothing else is left to run, the loop raises an error.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Result = TypeVar("Result")


class _Selector(selectors.SelectSelector):
    """Advances the clock to the next timer, where other selectors wait for sockets until then."""

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
    """Run a coroutine in simulated time, which begins at 0, and return its result; then its tasks are cancelled."""
    loop = _Loop()

    async def begin() -> Result:
        return await main()  # called on the loop, so that objects that it makes can read the clock

    try:
        return loop.run_until_complete(begin())
    finally:
        others = asyncio.all_tasks(loop)
        for task in others:
            task.cancel()
        if others:
            loop.run_until_complete(asyncio.gather(*others, return_exceptions=True))
        loop.close()


async def passed(seconds: float) -> None:
    """Let simulated time pass; no time costs no turn of the loop."""
    if seconds > 0:
        await asyncio.sleep(seconds)


def now_s() -> float:
    """Return the simulated seconds since the beginning; only within `simulated`."""
    return asyncio.get_running_loop().time()
