"""How long a request would wait for one engine, Triton or another server: by what it has to do and how fast it is.

Turns let the flows of callers advance alike (`_turns.py`). So before a request is done, every other flow has advanced
as far as its own, or has run dry; what comes later does not count.
"""

from __future__ import annotations

from collections import Counter
from time import monotonic
from typing import NamedTuple

from conch_gateway.errors import CapacityError
from conch_gateway.scheduling.turns import Turns

_SHORTEST_S, _UNKNOWN_S, _LONGEST_S = 0.05, 1.0, 30.0  # what callers are told


class Flow(NamedTuple):
    """Whose turns a request takes."""

    caller: str
    large: bool


class Line:
    """Who waits for an engine, and when those may return who are refused: one after another."""

    def __init__(self, turns: Turns, timeout_s: float, setting: str) -> None:
        """`timeout_s` is how long a request may take whose caller does not say less; `setting` is its name."""
        self._turns = turns
        self._timeout_s = timeout_s
        self._setting = setting
        self._backlogs: Counter[Flow] = Counter()  # tokens
        self._refused_until = 0.0

    def check(self, flow: Flow, tokens: int, stated_s: float) -> None:
        """Say whether one more request would be done in time; who has nothing in flight is not refused.

        Args:
            flow: that the request belongs to.
            tokens: of the request.
            stated_s: how long its caller says it waits.

        Raises:
            CapacityError: it would not, until the time that it says.
        """
        backlog = self._backlogs.get(flow, 0)
        before = tokens + sum(min(backlog + tokens, other) for other in self._backlogs.values())
        needed_s = self._turns.seconds_for(before)
        if backlog and needed_s is not None and needed_s > min(stated_s, self._timeout_s):
            reason = f"{self._setting} is {self._timeout_s:g}"
            if stated_s < self._timeout_s:
                reason = f"you wait {stated_s:g} s by your request's headers"
            msg = (
                f"the answer would take {needed_s:.0f} s, as you have about {backlog} tokens in flight already, and "
                f"{reason}; retry when retry-after says, or send fewer texts at once"
            )
            raise CapacityError(msg, self.return_in_s(tokens))

    def return_in_s(self, tokens: int) -> float:
        """Put a refused request behind those that were refused before, and say when it will be its turn."""
        now, needed_s = monotonic(), self._turns.seconds_for(tokens)
        if needed_s is None:
            return _UNKNOWN_S
        self._refused_until = min(max(now, self._refused_until) + needed_s, now + _LONGEST_S)
        return max(_SHORTEST_S, self._refused_until - now)

    def account(self, flow: Flow, tokens: int) -> None:
        """Add to what a flow has in flight, or take from it."""
        self._backlogs[flow] += tokens
        if not self._backlogs[flow]:
            del self._backlogs[flow]
