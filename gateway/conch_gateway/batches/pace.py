"""The number of lines that are computed at once: enough to keep the models busy, fewer while requests need them."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

_FIRST, _MOST = 8, 128
_BUSY_S, _BACKLOG_S = 0.1, 0.5  # waits for a slot at which more lines gain nothing, and at which they are too many
_LONGEST_PAUSE_S = 10.0


class Pace:
    """Adapts to the waits of lines: additive increase, and multiplicative decrease when a line is refused.

    Attributes:
        most: most lines at once.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.most = _FIRST
        self._clock = clock
        self._resume_at = clock()

    @property
    def pause_s(self) -> float:
        """Seconds for which no line should be started."""
        return max(0.0, self._resume_at - self._clock())

    def answered(self, queue_s: float | None) -> None:
        """Record how long a line waited for a slot; None if it needed none."""
        if queue_s is None or queue_s < _BUSY_S:
            self.most = min(_MOST, self.most + 1)
        elif queue_s > _BACKLOG_S:
            self.most = max(1, self.most - 1)

    def refused(self, retry_after_s: float) -> None:
        """Record that a line was refused and may be retried after so many seconds."""
        if self.most == 1:
            self._resume_at = self._clock() + min(retry_after_s, _LONGEST_PAUSE_S)
        self.most = max(1, self.most // 2)
