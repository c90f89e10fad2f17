"""Several servers that do the same: which gets the next call, and what becomes of those that fail."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from itertools import count
from statistics import median
from threading import Lock
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, TypeVar

from conch_client.routing.budget import RetryBudget
from conch_client.routing.load import Load
from conch_client.routing.replica import Replica
from conch_client.routing.standing import Standing, State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from conch_client.routing.load import Clock, Task

Server = TypeVar("Server")
_NONE: Mapping[str, int | None] = MappingProxyType({})


class Outcome(str, Enum):
    """How a call ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """For a reason that says nothing of the server: the request was wrong, or the queue full."""
    BUSY = "busy"
    """The server has said that it takes no more for a while."""
    FAILED = "failed"
    """Perhaps by the request's fault."""
    LOST = "lost"
    """The server cannot be reached, or is stopping."""
    ABANDONED = "abandoned"
    """By whoever made it."""


_UNHEARD = frozenset({Outcome.LOST, Outcome.ABANDONED})


class Member(Generic[Server]):
    """One server of a pool.

    Attributes:
        server: What the pool's owner needs to call it.
        load: What it has to do.
        standing: Whether it gets calls.
        outcomes: Calls that have ended, by how.
    """

    __slots__ = ("load", "outcomes", "server", "standing", "used")

    def __init__(self, server: Server, clock: Clock, *, joins: bool) -> None:
        self.server = server
        self.load = Load(clock)
        self.standing = Standing(clock, joins=joins)
        self.outcomes: Counter[Outcome] = Counter()
        self.used = 0

    def seen(self, url: str, instances: Mapping[str, int | None] = _NONE) -> Replica:
        """What users see of it now; ``instances`` are those of its models."""
        return Replica(
            url,
            self.standing.state.value,
            self.load.calls,
            self.load.tokens,
            {outcome.value: number for outcome, number in self.outcomes.copy().items()},
            dict(self.standing.ejections),
            instances,
        )


@dataclass(slots=True, eq=False)
class Call(Generic[Server]):
    """A call under way."""

    member: Member[Server]
    task: Task


class Pool(Generic[Server]):
    """Chooses the server that is predicted to answer first; any number of threads may use it."""

    def __init__(self, clock: Clock = monotonic, budget: RetryBudget | None = None) -> None:
        self._clock = clock
        self._budget = budget or RetryBudget()
        self._numbers = count(1)
        self._lock = Lock()
        self.members: tuple[Member[Server], ...] = ()
        """All of them; replaced and never changed, so that it can be read without a lock."""

    def add(self, server: Server, *, joins: bool = False) -> Member[Server]:
        """Adds a server; one that ``joins`` others which have served for a while starts slowly."""
        member = Member(server, self._clock, joins=joins)
        with self._lock:
            self.members = (*self.members, member)
        return member

    def remove(self, member: Member[Server]) -> None:
        """Removes a server; its calls under way, which are all counted by then, may end as they would have."""
        with self._lock:
            self.members = tuple(other for other in self.members if other is not member)

    @property
    def serving(self) -> list[Member[Server]]:
        """Those in service, or all of them where none is: then even a bad one is better than none."""
        return _serving(self.members)

    def begin(
        self,
        tokens: float,
        fits: Callable[[Server], bool],
        tried: Collection[Member[Server]] = (),
        *,
        model: str = "",
    ) -> Call[Server] | None:
        """Chooses a server for a call of so many tokens and counts the call; None where none is left.

        Args:
            tokens: Of the call.
            fits: Whether the call is for such a server.
            tried: Servers that have failed at it.
            model: What computes it, where servers have several.
        """
        with self._lock:
            if not tried:
                self._budget.earn()
            fitting = [member for member in self.members if member not in tried and fits(member.server)]
            if not fitting:
                return None
            member = fitting[0] if len(fitting) == 1 else self._best(_serving(fitting), tokens)
            member.used = next(self._numbers)
            return Call(member, member.load.begin(tokens, model))

    def end(self, call: Call[Server], outcome: Outcome, *, rests_s: float = 0.0) -> None:
        """Takes note of how a call has ended; of a busy server, for how long it gets no more."""
        with self._lock:
            standing = call.member.standing
            call.member.outcomes[outcome] += 1
            call.member.load.end(call.task, answered=outcome is Outcome.ANSWERED, heard=outcome not in _UNHEARD)
            if outcome is Outcome.ANSWERED:
                standing.succeed()
            elif outcome is Outcome.FAILED:
                standing.fail(outcome.value)
            elif outcome is Outcome.LOST:
                standing.take_out(outcome.value)
            elif outcome is Outcome.BUSY:
                standing.rest(rests_s)

    def may_repeat(self, fits: Callable[[Server], bool], tried: Collection[Member[Server]]) -> bool:
        """Whether a call may go to a server that has not failed at it; counted against the budget."""
        with self._lock:
            left = any(member not in tried and fits(member.server) for member in self.members)
            return left and self._budget.spend()

    def is_stalled(self, member: Member[Server]) -> bool:
        """Whether a server's oldest call takes far longer than predicted, and no other was answered meanwhile."""
        with self._lock:
            return member.load.is_stalled()

    def is_mute(self, call: Call[Server]) -> bool:
        """Whether a call that is given up makes it likely that the server answers nobody; see `Load.is_mute`."""
        with self._lock:
            return call.member.load.is_mute(call.task)

    def _best(self, members: list[Member[Server]], tokens: float) -> Member[Server]:
        known = [member.load.seconds for member in members if member.load.seconds is not None]
        usual = median(known) if known else 1.0

        def rank(member: Member[Server]) -> tuple[bool, bool, float, int]:
            # One on trial first: it was slow before it was taken out, and would not be chosen by what it did then.
            # One that starts slowly has a call at any time: left idle, it would help nobody just when it was needed.
            # Of equals, the one that was used least lately: so an idle pool takes turns.
            load, standing = member.load, member.standing
            predicted_s = load.predicted_s(tokens, usual) / (standing.share if load.calls else 1.0)
            return standing.state is not State.TRIAL, load.calls >= load.most, predicted_s, member.used

        return min(members, key=rank)


def _serving(members: Collection[Member[Server]]) -> list[Member[Server]]:
    return [member for member in members if member.standing.may_get(member.load.calls)] or list(members)
