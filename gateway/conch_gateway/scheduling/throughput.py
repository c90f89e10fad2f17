"""How fast an engine is when it has all that it can do; a lone request, which waits for nobody, does not tell."""

from __future__ import annotations

from math import exp
from time import monotonic

_MEMORY_S = 10.0


class Throughput:
    """Tokens computed in a second; what is more than about ten such seconds ago counts exponentially less."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0
        self._noted_at = monotonic()

    def note(self, *, full: bool, tokens: int = 0) -> None:
        """End a stretch of time in which the engine was full or not, and at whose end so many tokens were computed."""
        now = monotonic()
        if full:
            fade = exp((self._noted_at - now) / _MEMORY_S)
            self._seconds = self._seconds * fade + now - self._noted_at
            self._tokens = self._tokens * fade + tokens
        self._noted_at = now

    def seconds_for(self, tokens: int) -> float | None:
        """Return how long so many tokens take; None if nothing has been measured."""
        return tokens * self._seconds / self._tokens if self._tokens else None
