"""Which backends requests use: one that the models file names no more is closed when the last has been answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from conch_gateway.background import start


class Closable(Protocol):
    """What of a backend counts here."""

    async def close(self) -> None:
        """Close its connections."""


class Uses:
    """Counts the requests at each backend; belongs to one event loop."""

    def __init__(self) -> None:
        self._users: Counter[Closable] = Counter()
        self._retired: set[Closable] = set()
        self._closing: set[asyncio.Task[None]] = set()

    @contextmanager
    def of(self, backend: Closable) -> Iterator[None]:
        """Keep a backend open inside the block."""
        self._users[backend] += 1
        try:
            yield
        finally:
            self._users[backend] -= 1
            if not self._users[backend]:
                del self._users[backend]
                self._close_unused()

    def retire(self, backends: Iterable[Closable]) -> None:
        """Close backends when no request uses them any more."""
        self._retired.update(backends)
        self._close_unused()

    async def end(self) -> None:
        """Close all that were retired, used or not."""
        for backend in tuple(self._retired):
            await backend.close()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _close_unused(self) -> None:
        for backend in self._retired - self._users.keys():
            self._retired.discard(backend)
            # Beside the request that was the last, which may be cancelled meanwhile.
            task = start(backend.close(), "closing the connections of a backend that was retired")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
