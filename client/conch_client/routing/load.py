"""The calls under way at one server, and its measured speed."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Clock = Callable[[], float]

CALL_TOKENS = 32
"""Fixed cost of a call, in tokens: the network, and a batch of one."""

_WEIGHT = 0.2  # of the newest measurement in the moving average, which covers about ten calls
_MEMORY_S = 10.0  # decay of a measurement towards the usual speed while a server gets no calls
_STALL_S, _STALL_FACTOR = 5.0, 10.0
# Used before the first measurement. Even a model with billions of weights computes more than two tokens a second on
# one core.
_FIRST_STALL_S, _FIRST_TOKEN_S = 60.0, 0.5


@dataclass(slots=True, eq=False)
class Task:
    """One call under way.

    Attributes:
        tokens: Its cost, in tokens.
        model: The model that computes it.
        ahead: Tokens' time that the server needs until it is answered.
        started_at: When it began.
    """

    tokens: float
    model: str
    ahead: float
    started_at: float


class Load:
    """Counts the calls under way at a server, and measures its seconds per token.

    The model: a server does ``parallel`` calls at once, in the order in which they came. So a call of ``c`` tokens that
    finds ``w`` tokens under way is done when ``max(c, (w + c) / parallel)`` tokens' time has passed, and what it took,
    divided by that, is the time of a token, whatever the load. Throughput would not do: at half the load it is half.

    Attributes:
        parallel: How many calls the server computes at once: the instances of its encoder.
        most: How many it should have at once; it gets more only where others have as many as they should.
        tokens: Cost of the calls under way.
        finished_at: When a call was last answered.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: dict[int, Task] = {}
        self._seconds: float | None = None
        self._seconds_of: dict[str, float] = {}
        self._mute_s = 0.0
        self._mute_until = -inf
        self.parallel = 1
        self.most = inf
        self.tokens = 0.0
        self.finished_at = clock()

    @property
    def calls(self) -> int:
        """Calls under way."""
        return len(self._tasks)

    @property
    def seconds(self) -> float | None:
        """Recent seconds per token; None if nothing was measured."""
        return self._seconds

    def begin(self, tokens: float, model: str = "") -> Task:
        """Count a call of so many tokens to a model."""
        cost = tokens + CALL_TOKENS
        task = Task(cost, model, max(cost, (self.tokens + cost) / self.parallel), self._clock())
        self._tasks[id(task)] = task
        self.tokens += cost
        return task

    def end(self, task: Task, *, answered: bool, heard: bool = True) -> None:
        """Record its end. Answers measure the speed; anything ``heard`` shows that the server is alive."""
        del self._tasks[id(task)]
        self.tokens = self.tokens - task.tokens if self._tasks else 0.0  # without calls, no rounding error may remain
        if heard:
            self._mute_s = 0.0
        if not answered:
            return
        self.finished_at = now = self._clock()
        if task.tokens > CALL_TOKENS:  # a call without tokens transfers a file, whose size decides its time
            seen = (now - task.started_at) / task.ahead
            self._seconds = _averaged(self._seconds, seen)
            self._seconds_of[task.model] = _averaged(self._seconds_of.get(task.model), seen)

    def predicted_s(self, tokens: float, usual: float, now: float) -> float:
        """Return the seconds until a call of so many tokens would be answered; more tokens under way never shorten it.

        Args:
            tokens: Tokens of the call.
            usual: Seconds per token at other servers, used as far as this one has no recent measurement.
            now: The time.
        """
        seconds = usual
        if self._seconds is not None:
            faded = 1.0 if self._tasks else exp((self.finished_at - now) / _MEMORY_S)
            seconds += (self._seconds - usual) * faded
        # Not `max(…)` as above: of two servers that would both start the call at once, that with less work is better.
        return seconds * (tokens + CALL_TOKENS + self.tokens / self.parallel)

    def is_stalled(self) -> bool:
        """Return whether its oldest call takes far longer than predicted, with no other answer meanwhile."""
        oldest = next(iter(self._tasks.values()), None)
        if oldest is None:
            return False
        return self._clock() - max(oldest.started_at, self.finished_at) > self.patience_s(oldest)

    def is_mute(self, task: Task) -> bool:
        """Return whether the server was silent for longer than a call may take, added up over calls that were given up.

        For servers that get nothing but calls, whose callers may give up sooner than that. Time counts once, while any
        call is under way, since the server was last heard. ``task`` is the call that is being given up.
        """
        now = self._clock()
        self._mute_s += now - max(task.started_at, self.finished_at, self._mute_until)
        self._mute_until = now
        return self._mute_s > self.patience_s(task)

    def patience_s(self, task: Task) -> float:
        """Return the seconds after which a call counts as lost: ten times the predicted time, plus five.

        Measured by calls of the same model, because a much larger model takes longer without hanging. The first call
        has a minute, and half a second for each token.
        """
        seconds = self._seconds_of.get(task.model)
        if seconds is None:
            return _FIRST_STALL_S + _FIRST_TOKEN_S * task.ahead
        return _STALL_S + _STALL_FACTOR * seconds * task.ahead


def _averaged(before: float | None, seen: float) -> float:
    return seen if before is None else before + _WEIGHT * (seen - before)
