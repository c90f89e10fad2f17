"""How long a request would wait for one engine, Triton or another server: by what it has to do and how fast it was.

Turns let the flows of callers advance alike (`_turns.py`). So before a request is done, every other flow has advanced
as far as its own, or has run dry; what comes later does not count.
"""

from collections import Counter
from math import exp
from time import monotonic
from typing import NamedTuple

from conch_gateway.errors import CapacityError

_MEMORY_S = 10.0  # throughput is that of about so many busy seconds
_SHORTEST_S, _UNKNOWN_S, _LONGEST_S = 0.05, 1.0, 30.0  # what callers are told


class Flow(NamedTuple):
    """Whose turns a request takes."""

    caller: str
    large: bool


class Line:
    """Who waits for an engine, and when those may return who are refused: one after another."""

    def __init__(self, max_wait_s: float) -> None:
        self._max_wait_s = max_wait_s
        self._backlogs: Counter[Flow] = Counter()  # tokens
        self._throughput = Throughput()
        self._refused_until = 0.0

    def check(self, flow: Flow, tokens: int) -> None:
        """Say whether one more request would be done in time; who has nothing in flight is not refused.

        Raises:
            CapacityError: it would not, until the time that it says.
        """
        backlog = self._backlogs.get(flow, 0)
        before = tokens + sum(min(backlog + tokens, other) for other in self._backlogs.values())
        needed_s = self._throughput.seconds_for(before)
        if backlog and needed_s is not None and needed_s > self._max_wait_s:
            msg = (
                f"the answer would take {needed_s:.0f} s, as you have about {backlog} tokens in flight already; retry "
                "when retry-after says, or send fewer texts at once"
            )
            raise CapacityError(msg, self.return_in_s(tokens))

    def return_in_s(self, tokens: int) -> float:
        """Put a refused request behind those that were refused before, and say when it will be its turn."""
        now, needed_s = monotonic(), self._throughput.seconds_for(tokens)
        if needed_s is None:
            return _UNKNOWN_S
        self._refused_until = min(max(now, self._refused_until) + needed_s, now + _LONGEST_S)
        return max(_SHORTEST_S, self._refused_until - now)

    def enter(self, flow: Flow, tokens: int) -> None:
        """Add to what a flow has in flight."""
        self._throughput.note(busy=bool(self._backlogs))
        self._backlogs[flow] += tokens

    def leave(self, flow: Flow, tokens: int, *, answered: bool) -> None:
        """Take from it what was answered, or will not be."""
        self._throughput.note(busy=True, tokens=tokens if answered else 0)
        self._backlogs[flow] -= tokens
        if self._backlogs[flow] <= 0:
            del self._backlogs[flow]


class Throughput:
    """Tokens answered in a second in which there was something to do; what is long ago counts exponentially less."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0
        self._noted_at = monotonic()

    def note(self, *, busy: bool, tokens: int = 0) -> None:
        """Count the time since the last note if it was busy, and tokens that were answered at its end."""
        now = monotonic()
        if busy:
            fade = exp((self._noted_at - now) / _MEMORY_S)
            self._seconds = self._seconds * fade + now - self._noted_at
            self._tokens *= fade
        self._tokens += tokens
        self._noted_at = now

    def seconds_for(self, tokens: int) -> float | None:
        """Return how long so many tokens take; None if nothing has been measured."""
        return tokens * self._seconds / self._tokens if self._tokens else None
