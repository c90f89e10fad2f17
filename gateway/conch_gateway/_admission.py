"""How much may be in flight: full means a quick 429 that says when to return, not a queue that ends in deadlines.

Before a request is tokenised its tokens are estimated from its length; once they are known, its hold is corrected. The
throughput is measured from the tokens of what has been answered, and tells how long a request would wait: until its
flow's turn has come (`_turns.py`), others have advanced as far as its own flow, or are done. Who would wait too long is
refused, and told a time: those who are refused together are told to return one after another.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import exp
from time import monotonic
from typing import NamedTuple

from conch_gateway._turns import Turns
from conch_gateway.errors import CapacityError
from conch_gateway.settings import GatewaySettings

CHARACTERS_PER_TOKEN = 4  # of English; other languages have fewer, and are underestimated until they are tokenised
LONGEST_ROW = 8_192  # what is longer is cut or refused by most models
_LARGE = 512  # tokens of a large request, about those of a call: estimates need not agree with the turns
_MEMORY_S = 10.0  # throughput is that of about so many busy seconds
_SHORTEST_S, _UNKNOWN_S, _LONGEST_S = 0.05, 1.0, 30.0  # what callers are told


class _Flow(NamedTuple):
    """Whose turns a request takes, as far as that is known before it is tokenised."""

    caller: str
    large: bool


class Admission:
    """Counts the requests, texts and tokens being computed. One event loop's: not thread-safe.

    Attributes:
        turns: says who of those that were admitted is next.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._max_requests = settings.max_in_flight_requests
        self._max_texts = settings.max_in_flight_texts
        self._max_tokens = settings.max_in_flight_tokens
        self._max_wait_s = settings.max_wait_s
        self._throughput = Throughput()
        self._backlogs: Counter[_Flow] = Counter()  # tokens
        self._line_ends_at = 0.0
        self.turns = Turns(settings.triton_calls, settings.timeout_s)
        self.requests = 0
        self.texts = 0
        self.tokens = 0

    @contextmanager
    def admit(self, texts: Sequence[str] | Sequence[Sequence[int]], caller: str) -> Iterator["Hold"]:
        """Hold room for one request.

        Raises:
            CapacityError: there is no room now, or it would wait too long.
        """
        tokens = estimated_tokens(texts)
        self.check(caller, len(texts), tokens)
        hold = Hold(self, _Flow(caller, tokens > _LARGE))
        self._throughput.note(busy=self.requests > 0)
        self.requests += 1
        self.texts += len(texts)
        hold.correct(tokens)
        try:
            yield hold
            self._throughput.note(busy=True, tokens=hold.tokens)
        finally:
            self._throughput.note(busy=True)
            self.requests -= 1
            self.texts -= len(texts)
            hold.correct(0)

    def check(self, caller: str, texts: int, tokens: int) -> None:
        """Say whether there is room for one more request; when there is no other, one of any size has room.

        Raises:
            CapacityError: there is none, until the time that it says.
        """
        full = (
            self.requests >= self._max_requests
            or self.texts + texts > self._max_texts
            or self.tokens + tokens > self._max_tokens
        )
        if not self.requests or not (full or self._waits_long(_Flow(caller, tokens > _LARGE), tokens)):
            return
        msg = (
            f"the gateway is full ({self.requests} requests with {self.texts} texts and about {self.tokens} tokens "
            "in flight); retry when retry-after says, or send fewer texts at once"
        )
        raise CapacityError(msg, self._return_in_s(max(tokens, self.tokens // self.requests)))

    def keep_account(self, flow: _Flow, tokens: int) -> None:
        """Add to what a flow has in flight."""
        self.tokens += tokens
        self._backlogs[flow] += tokens
        if not self._backlogs[flow]:
            del self._backlogs[flow]

    def _waits_long(self, flow: _Flow, tokens: int) -> bool:
        """Whether a flow that has something in flight would get its next answer too late."""
        if flow not in self._backlogs:
            return False
        own = self._backlogs[flow] + tokens
        before = sum(min(own, backlog) for backlog in self._backlogs.values()) + tokens
        needed_s = self._throughput.seconds_for(before)
        return needed_s is not None and needed_s > self._max_wait_s

    def _return_in_s(self, tokens: int) -> float:
        """Put a refused request at the end of the line of those that were, and say how long the line is."""
        now, needed_s = monotonic(), self._throughput.seconds_for(tokens)
        if needed_s is None:
            return _UNKNOWN_S
        self._line_ends_at = min(max(now, self._line_ends_at) + needed_s, now + _LONGEST_S)
        return max(_SHORTEST_S, self._line_ends_at - now)


class Hold:
    """What one request has in flight.

    Attributes:
        tokens: an estimate, until the request is tokenised.
    """

    def __init__(self, admission: Admission, flow: _Flow) -> None:
        self._admission = admission
        self._flow = flow
        self.tokens = 0

    def correct(self, tokens: int) -> None:
        """Replace the estimate by what the request really has."""
        self._admission.keep_account(self._flow, tokens - self.tokens)
        self.tokens = tokens


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


def estimated_tokens(texts: Sequence[str] | Sequence[Sequence[int]], max_length: int = LONGEST_ROW) -> int:
    """Return about how many tokens texts have, each at most `max_length`; rows of token ids are counted."""
    sizes = (len(text) // CHARACTERS_PER_TOKEN + 2 if isinstance(text, str) else len(text) for text in texts)
    return sum(min(size, max_length) for size in sizes)
