"""The number of lines that are computed at once: enough to keep the models busy, fewer while requests need them.

A server that is away, or busy, is that of some models only. So it makes the batches rest whose lines need it, and slows
down no others.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

_FIRST, _MOST = 8, 128
_BUSY_S, _BACKLOG_S = 0.1, 0.5  # waits for a slot at which more lines gain nothing, and at which they are too many
_LONGEST_PAUSE_S = 10.0
_REMEMBERED_S = 600.0


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


class Resting(NamedTuple):
    """Whose lines have to wait.

    Attributes:
        owners: names of keys.
        batches: ids.
        large: ids of batches of which large lines have to wait, and no others.
    """

    owners: frozenset[str] = frozenset()
    batches: frozenset[str] = frozenset()
    large: frozenset[str] = frozenset()


class _Rest(NamedTuple):
    until: float
    times: int = 0


class Rests:
    """Rests of owners, and of batches; those of a batch double until one of its lines is answered."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._owners: dict[str, float] = {}
        self._batches: dict[str, _Rest] = {}

    def now(self) -> Resting:
        """Return who rests now."""
        now = self._clock()
        self._owners = {owner: until for owner, until in self._owners.items() if until > now}
        # Batches that were cancelled are forgotten some time after their last failure.
        self._batches = {each: rest for each, rest in self._batches.items() if rest.until > now - _REMEMBERED_S}
        resting = (each for each, rest in self._batches.items() if rest.until > now)
        return Resting(frozenset(self._owners), frozenset(resting))

    def rest(self, owner: str, seconds: float) -> None:
        """Let the lines of an owner wait."""
        self._owners[owner] = self._clock() + seconds

    def answered(self, batch_id: str) -> None:
        """Record that a line of a batch was answered."""
        self._batches.pop(batch_id, None)

    def failed(self, batch_id: str, least_s: float, most_s: float) -> None:
        """Record that a line of a batch met a server that is away or busy; the second in a row makes the batch rest."""
        now, before = self._clock(), self._batches.get(batch_id)
        if before is None:
            self._batches[batch_id] = _Rest(now)
        elif before.until <= now:  # else it was computed beside the line that has made the batch rest
            self._batches[batch_id] = _Rest(now + min(least_s * 2**before.times, most_s), min(before.times + 1, 16))
