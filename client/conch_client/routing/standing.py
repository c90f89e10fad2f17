"""Whether a server gets calls: it is in service, out of service, or on trial."""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Clock = Callable[[], float]

_FAILURES = 3  # in a row: fewer may be the fault of the requests
_FIRST_S, _LONGEST_S = 0.5, 30.0  # out of service
_FORGIVEN_S = 30.0  # without failures, after which the time out of service starts short again
_SLOW_START_S = 10.0
_LEAST_SHARE = 0.1


class State(str, Enum):
    """State of a server."""

    SERVING = "serving"
    TRIAL = "trial"
    NOT_READY = "not-ready"
    OUT = "out"


class Standing:
    """Takes a server out of service when it fails, and puts it back step by step.

    It is out for half a second, and twice as long each further time. Then it gets one call on trial. When that is
    answered, its share of the calls grows over ten seconds, because a server that has just started is slow.

    Attributes:
        ready: Whether the server says that it is ready; if not, it gets calls only if no other server can.
        ejections: How often it was taken out, by reason.
    """

    def __init__(self, clock: Clock, *, joins: bool = False) -> None:
        """With ``joins``, it is added to servers that are in service, and starts slowly."""
        self._clock = clock
        self._failures = 0
        self._times_out = 0
        self._out_until: float | None = None
        self._rests_until = -inf
        self._back_at = clock() if joins else -inf
        self.ready = True
        self.ejections: dict[str, int] = {}

    @property
    def state(self) -> State:
        """Its current state."""
        now = self._clock()
        if self._out_until is not None and now < self._out_until:
            return State.OUT
        if now < self._rests_until:
            return State.NOT_READY
        if self.is_on_trial(now):
            return State.TRIAL
        return State.SERVING if self.ready else State.NOT_READY

    def may_get(self, calls: int, now: float) -> bool:
        """Return whether it may get a call while it has so many under way."""
        if self._out_until is None:
            return self.ready and now >= self._rests_until
        return not calls and self.is_on_trial(now)

    def is_on_trial(self, now: float) -> bool:
        """Return whether it gets one call to show that it works again."""
        return self._out_until is not None and now >= self._out_until and now >= self._rests_until

    @property
    def share(self) -> float:
        """Its share of the calls of an equally fast server: 0.1 when it comes back, 1 after ten seconds."""
        return self.share_at(self._clock())

    def share_at(self, now: float) -> float:
        """Return its share at a time."""
        age_s = now - self._back_at
        return 1.0 if age_s >= _SLOW_START_S else max(_LEAST_SHARE, age_s / _SLOW_START_S)

    def succeed(self) -> None:
        """Record an answer."""
        self._failures = 0
        if self._out_until is not None:
            # An answer to an earlier call does not show that it works again.
            if self._clock() >= self._out_until:
                self._out_until, self._back_at = None, self._clock()
        elif self._times_out and self._clock() - self._back_at > _FORGIVEN_S:
            self._times_out = 0

    def fail(self, reason: str) -> None:
        """Record a failure that the request may have caused; several in a row take it out of service."""
        self._failures += 1
        if self._failures >= _FAILURES:
            self.take_out(reason)

    def rest(self, seconds: float) -> None:
        """Record that it asked for no calls for so long."""
        self._rests_until = max(self._rests_until, self._clock() + seconds)

    def stay_out(self) -> None:
        """Keep a server that is still unreachable out of service, without a longer time out."""
        if self._out_until is not None:
            self._out_until = max(self._out_until, self._clock() + _FIRST_S)

    def take_out(self, reason: str) -> None:
        """Take it out of service, unless it is out already."""
        now = self._clock()
        if self._out_until is not None and now < self._out_until:
            return
        doublings = min(self._times_out, 10)  # with a thousand of them it would be no number
        self._out_until = now + min(_LONGEST_S, _FIRST_S * 2**doublings)
        self._times_out += 1
        self._failures = 0
        self.ejections[reason] = self.ejections.get(reason, 0) + 1
