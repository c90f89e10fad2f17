"""How many lines are computed at once: as many as keep the models busy, and fewer while others want them."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

_FIRST, _MOST = 8, 128
_BUSY_S, _BACKLOG_S = 0.1, 0.5  # that a line waits for a slot: from here on more would gain nothing, or are too many
_LONGEST_PAUSE_S = 10.0


class Pace:
    """Adapts to what lines meet: additive increase, and multiplicative decrease where they are refused.

    Attributes:
        most: lines at once.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.most = _FIRST
        self._clock = clock
        self._resume_at = clock()

    @property
    def pause_s(self) -> float:
        """How long no line should be begun."""
        return max(0.0, self._resume_at - self._clock())

    def answered(self, queue_s: float | None) -> None:
        """Take note of a line and of how long it waited for a slot; None if it needed none."""
        if queue_s is None or queue_s < _BUSY_S:
            self.most = min(_MOST, self.most + 1)
        elif queue_s > _BACKLOG_S:
            self.most = max(1, self.most - 1)

    def refused(self, retry_after_s: float) -> None:
        """Take note of a line that could not be computed now."""
        if self.most == 1:
            self._resume_at = self._clock() + min(retry_after_s, _LONGEST_PAUSE_S)
        self.most = max(1, self.most // 2)
