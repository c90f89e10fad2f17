"""What the autoscalers in deploy/kubernetes/components decide, with shorter times: the controller of `burst.py`."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TypeVar

WANTED_WAIT_S, WANTED_BUSY = 1.0, 0.35  # targets of the autoscaler, as in the manifests
BUSY_OVER_S, KEPT_S, UNUSED_S = 5.0, 15.0, 10.0  # there: 1 min, 5 min, 10 min
Number = TypeVar("Number", int, float)


@dataclass
class Controller:
    """Decides as a HorizontalPodAutoscaler does; from none to one as KEDA does."""

    most: int
    _busy: deque[tuple[float, float]] = field(default_factory=deque)
    _demands: deque[tuple[float, int]] = field(default_factory=deque)
    _used_at: float = 0.0

    def decide(self, now: float, ready: int, wait_s: float, busy: float) -> int:
        """Return how many Tritons there should be; none where there was no work for a while."""
        average = _kept(self._busy, now, BUSY_OVER_S, busy)
        if wait_s or busy:
            self._used_at = now
        ratio = max(wait_s / WANTED_WAIT_S, sum(average) / len(average) / WANTED_BUSY)
        demand = min(self.most, max(1, math.ceil(max(ready, 1) * ratio)))
        # Demands of the last while hold: it scales up at once, and down only when less has been enough for so long.
        highest = max(_kept(self._demands, now, KEPT_S, demand))
        if now - self._used_at > UNUSED_S or not (ready or wait_s):
            self._demands.clear()
            return 0
        return highest


def _kept(history: deque[tuple[float, Number]], now: float, seconds: float, value: Number) -> list[Number]:
    """Return this value and those of the last seconds."""
    history.append((now, value))
    while history[0][0] < now - seconds:
        history.popleft()
    return [each for _, each in history]
