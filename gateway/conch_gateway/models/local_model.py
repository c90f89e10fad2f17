"""One model of the repository: whether it is loaded, how many requests use it, and the change that is under way.

This is the gate of ADR 11: a change waits for the requests that use the model, and requests that arrive meanwhile wait
for the change. So a request sees one version from its tokenizer to its last call, and none fails because a model is
replaced or unloaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from conch_gateway.background import start
from conch_gateway.settings import Load

_LONGEST_PAUSE_S = 30.0


class LocalModel:
    """A model, with what is derived from it: they share an encoder, so they come and go together.

    Attributes:
        load_s: seconds that its last load took, from Triton being told to the first answer; None before one.
    """

    def __init__(self, name: str, policy: Load) -> None:
        self.name = name
        self.policy = policy
        self.wanted = policy == "start"
        self.loaded = False
        self.users = 0
        self.change: asyncio.Task[None] | None = None
        self.fault: str | None = None
        self.load_s: float | None = None
        self._unused = asyncio.Event()
        self._unused.set()
        self._failures = 0
        self._failed_at = float("-inf")

    @property
    def state(self) -> str:
        """`loaded`, `changing`, `failed` or `unloaded`."""
        if self.change is not None:
            return "changing"
        if self.loaded:
            return "loaded"
        return "unloaded" if self.fault is None else "failed"

    @property
    def is_due(self) -> bool:
        """Whether it should be loaded, is not, and enough time has passed since that failed."""
        doublings = min(self._failures, 10)  # with a thousand of them it would be no number
        pause_s = min(_LONGEST_PAUSE_S, 2.0**doublings)
        return self.wanted and not self.loaded and self.change is None and monotonic() - self._failed_at >= pause_s

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep it as it is meanwhile."""
        self.users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self.users -= 1
            if not self.users:
                self._unused.set()

    def begin(self, work: Callable[[LocalModel], Awaitable[None]], *, loaded: bool) -> asyncio.Task[None]:
        """Start a change, after which the model is loaded or not; cancelling a waiting request does not cancel it."""
        verb = "loading" if loaded else "unloading"
        self.change = start(self._do(work, loaded=loaded), f"{verb} {self.name}")
        return self.change

    async def _do(self, work: Callable[[LocalModel], Awaitable[None]], *, loaded: bool) -> None:
        self.wanted = loaded
        try:
            await self._unused.wait()
            await work(self)
        except Exception as error:
            self.fault = str(error)  # what Triton had loaded before, it keeps
            self._failures, self._failed_at = self._failures + 1, monotonic()
            raise
        else:
            self.loaded, self.fault, self._failures = loaded, None, 0
        finally:
            self.change = None
