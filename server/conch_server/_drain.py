"""Wait until Triton computes nothing more.

SIGTERM does not do: Triton then stops the schedulers of all models at once, and an ensemble that is between two of its
steps fails with "Server is stopping". Nor does it tell how much is in flight, so what its stubs use of the processor is
watched.
"""

from __future__ import annotations

import asyncio
import time

from conch_server._processes import busy_s, stubs_of

WINDOW_S = 0.1
# A stub that computes takes a whole core; one that waits wakes up a few times a second.
IDLE_SHARE = 0.2
IDLE_WINDOWS = 2


async def until_idle(leader: int, timeout_s: float) -> bool:
    """Return true once the stubs of the tritonserver `leader` are idle, false if they still are not in time."""
    stubs = stubs_of(leader)
    deadline, idle, before = time.monotonic() + timeout_s, 0, busy_s(stubs)
    while idle < IDLE_WINDOWS:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(WINDOW_S)
        now = busy_s(stubs)
        idle = idle + 1 if now - before <= IDLE_SHARE * WINDOW_S else 0
        before = now
    return True
