"""A supervisor of `conch serve`, which starts it again whenever it ends.

It does as `restart: unless-stopped` of docker compose does: it waits 0.1 s, twice as long each time the command ends
within 10 s of its start, and 0.1 s again after it has run for longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import psutil

from tests.serving import START_TIMEOUT_S, Serving

if TYPE_CHECKING:
    from typing_extensions import Self

FIRST_PAUSE_S, STEADY_S = 0.1, 10.0
POLL_S = 0.02
LISTENING_POLL_S = 0.05


class Supervised:
    """An async context manager: inside, the command runs; it may not be ready yet.

    Attributes:
        serving: the command and its processes.
        down: moments of the monotonic clock from its end to when it listened again; the last may be without an end.
    """

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.down: list[tuple[float, float | None]] = []
        self._supervisor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.serving.launch()
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait({self._supervisor})
            if not self._supervisor.cancelled():
                self._supervisor.result()
        if self.serving.status is None:
            try:
                await asyncio.to_thread(self.serving.stop, signal.SIGTERM)
            except subprocess.TimeoutExpired:
                self.serving.kill()
                raise

    async def until_ready(self) -> None:
        """Return once every model has answered; raises TimeoutError."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not await asyncio.to_thread(self.serving.ready):
            if time.monotonic() > deadline:
                raise TimeoutError(f"conch serve was not ready after {START_TIMEOUT_S} s: {self.serving.said}")
            await asyncio.sleep(LISTENING_POLL_S)

    def pss_mb(self) -> float:
        """Resident MB (1e6 bytes) of all its processes, a page that several share counted once."""
        total = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in self.serving.family:
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    total += process.memory_full_info().pss
        return total / 1e6

    async def _supervise(self) -> None:
        pause_s, began = FIRST_PAUSE_S / 2, time.monotonic()
        while True:
            while self.serving.status is None:  # noqa: ASYNC110  nothing tells of its end
                await asyncio.sleep(POLL_S)
            if not self.down or self.down[-1][1] is not None:
                self.down.append((time.monotonic(), None))
            pause_s = FIRST_PAUSE_S if time.monotonic() - began > STEADY_S else 2 * pause_s
            await asyncio.sleep(pause_s)
            began = time.monotonic()
            self.serving.launch()
            await self._until_listening()

    async def _until_listening(self) -> None:
        """Return when it takes connections again, or has ended."""
        while self.serving.status is None:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.serving.port)
                writer.close()
                self.down[-1] = (self.down[-1][0], time.monotonic())
                return
            await asyncio.sleep(LISTENING_POLL_S)
