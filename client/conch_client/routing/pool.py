"""A pool of equal servers: chooses the server of each call, and takes servers that fail out of service."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from itertools import count
from random import random
from statistics import median
from threading import Lock
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, TypeVar

from conch_client.routing.load import Load
from conch_client.routing.replica import Replica
from conch_client.routing.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from conch_client.routing.load import Clock, Task

Server = TypeVar("Server")
_NONE: Mapping[str, int | None] = MappingProxyType({})


class Outcome(str, Enum):
    """How a call ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """Refused for a reason that is no failure of the server: the request is invalid, or the queue is full."""
    BUSY = "busy"
    """The server answered that it takes no calls for a while."""
    FAILED = "failed"
    """Failed; the request may be the cause."""
    LOST = "lost"
    """The server cannot be reached, or is stopping."""
    ABANDONED = "abandoned"
    """Cancelled by the caller."""


_RETRIES_PER_CALL = 0.2
_MOST_RETRIES = 256.0
"""Most calls under way at one server when it dies, all of which are repeated at once."""

_UNHEARD = frozenset({Outcome.LOST, Outcome.ABANDONED})


class Member(Generic[Server]):
    """One server of a pool.

    Attributes:
        server: What the owner of the pool needs to call it.
        load: Its calls and speed.
        standing: Whether it gets calls.
        outcomes: Number of ended calls, by outcome.
        used: Number of its last call; negative before the first.
    """

    __slots__ = ("load", "outcomes", "server", "standing", "used")

    def __init__(self, server: Server, clock: Clock, used: float, *, joins: bool) -> None:
        self.server = server
        self.load = Load(clock)
        self.standing = Standing(clock, joins=joins)
        self.outcomes: Counter[Outcome] = Counter()
        self.used = used

    def seen(self, url: str, instances: Mapping[str, int | None] = _NONE) -> Replica:
        """Return its current state for users; ``instances`` are those of its models."""
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
    """Chooses the server that is predicted to answer first; any number of threads may use it.

    One call in five may be repeated, and a burst of ``_MOST_RETRIES`` beyond that (as Finagle's budget does), so that
    retries do not overload servers that fail.
    """

    def __init__(self, clock: Clock = monotonic, draw: Callable[[], float] = random) -> None:
        self._clock = clock
        self._retries = _MOST_RETRIES
        self._draw = draw
        self._numbers = count(1)
        self._lock = Lock()
        self.members: tuple[Member[Server], ...] = ()
        """All members; the tuple is replaced, never changed, so that it can be read without a lock."""

    def add(self, server: Server, *, joins: bool = False) -> Member[Server]:
        """Add a server. With ``joins``, it is added to servers that are in service, and starts slowly."""
        # Below every number of a call, and in another order in every process: clients that start together would
        # otherwise all begin with the same servers.
        member = Member(server, self._clock, -self._draw(), joins=joins)
        with self._lock:
            self.members = (*self.members, member)
        return member

    def remove(self, member: Member[Server]) -> None:
        """Remove a server; its calls under way may end as usual."""
        with self._lock:
            self.members = tuple(other for other in self.members if other is not member)

    @property
    def serving(self) -> list[Member[Server]]:
        """The members in service; if there are none, all members."""
        return _serving(self.members, self._clock())

    def begin(
        self,
        tokens: float,
        fits: Callable[[Server], bool],
        tried: Collection[Member[Server]] = (),
        *,
        model: str = "",
    ) -> Call[Server] | None:
        """Choose the server of a call of so many tokens, and count the call; return None if no server is left.

        Args:
            tokens: Tokens of the call.
            fits: Whether a server can answer the call.
            tried: Servers at which the call has failed.
            model: The model that computes it, if servers have several.
        """
        with self._lock:
            if not tried:
                self._retries = min(_MOST_RETRIES, self._retries + _RETRIES_PER_CALL)
            fitting = [member for member in self.members if member not in tried and fits(member.server)]
            if not fitting:
                return None
            member = fitting[0] if len(fitting) == 1 else self._best(fitting, tokens)
            member.used = next(self._numbers)
            return Call(member, member.load.begin(tokens, model))

    def end(self, call: Call[Server], outcome: Outcome, *, rests_s: float = 0.0) -> None:
        """Record the outcome of a call. A busy server gets no calls for ``rests_s`` seconds."""
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
        """Return whether a call may be repeated on another server, and count the retry."""
        with self._lock:
            left = any(member not in tried and fits(member.server) for member in self.members)
            if not left or self._retries < 1:
                return False
            self._retries -= 1
            return True

    def is_stalled(self, member: Member[Server]) -> bool:
        """Return whether a server seems to hang; see `Load.is_stalled`."""
        with self._lock:
            return member.load.is_stalled()

    def is_mute(self, call: Call[Server]) -> bool:
        """Return whether a server seems to answer nobody, at a call that is given up; see `Load.is_mute`."""
        with self._lock:
            return call.member.load.is_mute(call.task)

    def _best(self, fitting: list[Member[Server]], tokens: float) -> Member[Server]:
        now = self._clock()
        members = _serving(fitting, now)
        known = [seconds for member in members if (seconds := member.load.seconds) is not None]
        usual = median(known) if known else 1.0

        def rank(member: Member[Server]) -> tuple[bool, bool, float, float]:
            # A server on trial comes first: by its speed before it was taken out, it would not be chosen.
            # A server that starts slowly gets a call whenever it is idle, because it was added when it was needed.
            # Of equals, the one that was used least recently, so that an idle pool takes turns.
            load, standing = member.load, member.standing
            calls, predicted_s = load.calls, load.predicted_s(tokens, usual, now)
            if calls:
                predicted_s /= standing.share_at(now)
            return not standing.is_on_trial(now), calls >= load.most, predicted_s, member.used

        return min(members, key=rank)


def _serving(members: Collection[Member[Server]], now: float) -> list[Member[Server]]:
    return [member for member in members if member.standing.may_get(member.load.calls, now)] or list(members)
