"""Whether a server gets calls: in service, out, or back on trial."""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Clock = Callable[[], float]

_FAILURES = 3  # in a row: fewer may be the fault of the requests
_FIRST_S, _LONGEST_S = 0.5, 30.0  # that it is out
_FORGIVEN_S = 30.0  # of good service, after which the next time out is a short one again
_SLOW_START_S = 10.0
_LEAST_SHARE = 0.1


class State(str, Enum):
    """How a server stands."""

    SERVING = "serving"
    TRIAL = "trial"
    NOT_READY = "not-ready"
    OUT = "out"


class Standing:
    """Takes a server out of service that fails, and lets it back, step by step.

    It is out for half a second, twice as long each further time. Then it gets one call, and once that is answered, more
    and more over ten seconds: what has just been started is slow at first.

    Attributes:
        ready: What the server says of itself; one that is not gets calls only where no other is.
        ejections: How often it was taken out, by reason.
    """

    def __init__(self, clock: Clock, *, joins: bool = False) -> None:
        """``joins`` says that it came later than others, and so starts slowly."""
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
        """How it stands now."""
        now = self._clock()
        if self._out_until is not None and now < self._out_until:
            return State.OUT
        if now < self._rests_until:
            return State.NOT_READY
        if self._out_until is not None:
            return State.TRIAL
        return State.SERVING if self.ready else State.NOT_READY

    def may_get(self, calls: int) -> bool:
        """Whether it may get a call, with so many under way."""
        state = self.state
        return state is State.SERVING or (state is State.TRIAL and not calls)

    @property
    def share(self) -> float:
        """Its part of the calls that a server of its speed would get: 0.1 when it comes back, 1 after ten seconds."""
        return min(1.0, max(_LEAST_SHARE, (self._clock() - self._back_at) / _SLOW_START_S))

    def succeed(self) -> None:
        """Takes note of an answer."""
        self._failures = 0
        if self._out_until is not None:
            # An answer that was still under way when it was taken out proves nothing.
            if self._clock() >= self._out_until:
                self._out_until, self._back_at = None, self._clock()
        elif self._times_out and self._clock() - self._back_at > _FORGIVEN_S:
            self._times_out = 0

    def fail(self, reason: str) -> None:
        """Takes note of a failure that may be the request's; several in a row take it out."""
        self._failures += 1
        if self._failures >= _FAILURES:
            self.take_out(reason)

    def rest(self, seconds: float) -> None:
        """Takes note that it wants no calls for so long."""
        self._rests_until = max(self._rests_until, self._clock() + seconds)

    def stay_out(self) -> None:
        """Keeps a server out that is still away; it is no worse for being away longer."""
        if self._out_until is not None:
            self._out_until = max(self._out_until, self._clock() + _FIRST_S)

    def take_out(self, reason: str) -> None:
        """Takes it out of service; while it is out, nothing."""
        now = self._clock()
        if self._out_until is not None and now < self._out_until:
            return
        self._out_until = now + min(_LONGEST_S, _FIRST_S * 2**self._times_out)
        self._times_out += 1
        self._failures = 0
        self.ejections[reason] = self.ejections.get(reason, 0) + 1
