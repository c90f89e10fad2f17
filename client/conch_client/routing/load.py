"""What is under way at one server, and how fast it has been seen to be."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Clock = Callable[[], float]

CALL_TOKENS = 32
"""What a call costs beside its tokens, in tokens: the way there and back, and a batch of one."""

_WEIGHT = 0.2  # of the newest measurement; some ten calls are remembered
_MEMORY_S = 10.0  # a server that gets no calls is taken for an average one again after a few times as long
_STALL_S, _STALL_FACTOR = 5.0, 10.0
# While nothing is known of the model's speed there: two tokens a second are fewer than a model of billions of weights
# does on one core.
_FIRST_STALL_S, _FIRST_TOKEN_S = 60.0, 0.5


@dataclass(slots=True, eq=False)
class Task:
    """One call under way.

    Attributes:
        tokens: Its cost.
        model: What computes it.
        ahead: Tokens' time that the server needs until it is answered.
        started_at: When it began.
    """

    tokens: float
    model: str
    ahead: float
    started_at: float


class Load:
    """Counts the calls under way, and measures the seconds that a token takes.

    The model: a server does ``parallel`` calls at once, in the order in which they came. So a call of ``c`` tokens that
    finds ``w`` tokens under way is done when ``max(c, (w + c) / parallel)`` tokens' time has passed, and what it took,
    divided by that, is the time of a token, whatever the load. Throughput would not do: at half the load it is half.

    Attributes:
        parallel: How many calls the server computes at once: the instances of its encoder.
        most: How many it should have at once; it gets more only where others have as many as they should.
        tokens: Cost of the calls under way.
        finished_at: When a call was last answered.
    """

    __slots__ = (
        "_clock",
        "_mute_s",
        "_mute_until",
        "_seconds",
        "_seconds_of",
        "_tasks",
        "finished_at",
        "most",
        "parallel",
        "tokens",
    )

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
        """Seconds that a token took lately; None if nothing was measured."""
        return self._seconds

    def begin(self, tokens: float, model: str = "") -> Task:
        """Takes note of a call of so many tokens to a model."""
        cost = tokens + CALL_TOKENS
        task = Task(cost, model, max(cost, (self.tokens + cost) / self.parallel), self._clock())
        self._tasks[id(task)] = task
        self.tokens += cost
        return task

    def end(self, task: Task, *, answered: bool, heard: bool = True) -> None:
        """Takes note of its end; only an answer says how fast the server is, but anything heard that it is there."""
        del self._tasks[id(task)]
        self.tokens = self.tokens - task.tokens if self._tasks else 0.0  # no rounding errors remain
        if heard:
            self._mute_s = 0.0
        if not answered:
            return
        self.finished_at = now = self._clock()
        if task.tokens > CALL_TOKENS:  # what has no tokens is the transfer of a file, and takes the time of its bytes
            seen = (now - task.started_at) / task.ahead
            self._seconds = _averaged(self._seconds, seen)
            self._seconds_of[task.model] = _averaged(self._seconds_of.get(task.model), seen)

    def predicted_s(self, tokens: float, usual: float) -> float:
        """Seconds until a call of so many tokens would be answered; never less than with one token less under way.

        Args:
            tokens: Of the call.
            usual: Seconds of a token at other servers, which count where little or nothing is known of this one.
        """
        seconds = usual
        if self._seconds is not None:
            age_s = 0.0 if self._tasks else self._clock() - self.finished_at
            seconds += (self._seconds - usual) * exp(-age_s / _MEMORY_S)
        # Not `max(…)` as above: between two servers that would both begin at once, the emptier one is the better.
        return seconds * (tokens + CALL_TOKENS + self.tokens / self.parallel)

    def is_stalled(self) -> bool:
        """Whether its oldest call takes far longer than predicted, and no other was answered meanwhile."""
        oldest = next(iter(self._tasks.values()), None)
        if oldest is None:
            return False
        return self._clock() - max(oldest.started_at, self.finished_at) > self.patience_s(oldest)

    def is_mute(self, task: Task) -> bool:
        """Whether the server has said nothing for as long as a call may take, in all the calls that were given up.

        For servers that are asked for nothing but calls, whose callers may be less patient than that. Only time in
        which a call was under way counts, and once, since something was last heard. ``task`` is the call that is given
        up now, before its end.
        """
        now = self._clock()
        self._mute_s += now - max(task.started_at, self.finished_at, self._mute_until)
        self._mute_until = now
        return self._mute_s > self.patience_s(task)

    def patience_s(self, task: Task) -> float:
        """Seconds after which a call is taken for lost: ten times what is predicted, and five.

        By calls of the same model: one with a hundred times the weights is no server that hangs. The first one has a
        minute and half a second for each token, so that only a long text of a large model takes long to be missed.
        """
        seconds = self._seconds_of.get(task.model)
        if seconds is None:
            return _FIRST_STALL_S + _FIRST_TOKEN_S * task.ahead
        return _STALL_S + _STALL_FACTOR * seconds * task.ahead


def _averaged(before: float | None, seen: float) -> float:
    return seen if before is None else before + _WEIGHT * (seen - before)
