"""How much may be in flight: full means a quick 429 that says when to return, not a queue that ends in deadlines.

There is one limit for all that the gateway holds, and for each engine one on how long its line may be. Before a request
is tokenised its tokens are estimated from its length; once they are known, its hold is corrected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from conch_client import ModelInfo

from conch_gateway.errors import CapacityError
from conch_gateway.scheduling.line import Flow, Line
from conch_gateway.scheduling.turns import Turns
from conch_gateway.settings import GatewaySettings
from conch_gateway.telemetry.trace import Trace

CHARACTERS_PER_TOKEN = 4  # of English; other languages have fewer, and are underestimated until they are tokenised
LONGEST_ROW = 8_192  # what is longer is cut or refused by most models
_CALLS_EACH = 2  # for an instance: one that it computes, one that is there when it is done
_ROWS = 8  # that an instance on a CPU merges; those on a GPU take more, and so more calls keep them busy
_LARGE = 512  # tokens of a large request, about those of a call: estimates need not agree with the turns


class Admission:
    """Counts the requests, texts and tokens being computed. One event loop's: not thread-safe.

    Attributes:
        turns: says who of those that were admitted is next at Triton.
        line: of those who wait for Triton.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._max_requests = settings.max_in_flight_requests
        self._max_texts = settings.max_in_flight_texts
        self._max_tokens = settings.max_in_flight_tokens
        self._stated_calls = settings.triton_calls
        self._calls: dict[str, int] = {}
        self.turns = Turns(settings.triton_calls or _CALLS_EACH)
        self.line = Line(self.turns, settings.timeout_s, "CONCH_TIMEOUT_S")
        self.requests = 0
        self.texts = 0
        self.tokens = 0

    def know(self, info: ModelInfo) -> None:
        """Let as many calls be under way as keep every model's instances busy, unless the settings say how many."""
        if self._stated_calls is None and info.instances is not None:
            self._calls[info.name] = _CALLS_EACH * info.instances * max(1, info.max_rows // _ROWS)
            self.turns.fit(max(self._calls.values()))

    @contextmanager
    def admit(self, texts: Sequence[str] | Sequence[Sequence[int]], trace: Trace, query: str = "") -> Iterator[Hold]:
        """Hold room for one request, whose query is computed with each of its texts.

        Raises:
            CapacityError: there is no room now.
        """
        tokens = estimated_tokens(texts, beside=len(query))
        self._check_room(len(texts), tokens)
        hold = Hold(self, trace, tokens)
        self.requests += 1
        self.texts += len(texts)
        self.tokens += tokens
        try:
            yield hold
        finally:
            self.requests -= 1
            self.texts -= len(texts)
            hold.correct(0)

    def check(self, trace: Trace, tokens: int, *, for_triton: bool) -> None:
        """Say whether there may be room for a request whose body is still to be read.

        Args:
            trace: of the request.
            tokens: about the least that it has.
            for_triton: whether it cannot but wait for Triton.

        Raises:
            CapacityError: there is none, until the time that it says.
        """
        self._check_room(1, tokens)
        if for_triton:
            self.line.check(_flow(trace.caller, tokens), tokens, trace.timeout_s)

    def _check_room(self, texts: int, tokens: int) -> None:
        """When there is no other request, one of any size has room."""
        full = (
            self.requests >= self._max_requests
            or self.texts + texts > self._max_texts
            or self.tokens + tokens > self._max_tokens
        )
        if full and self.requests:
            msg = (
                f"the gateway is full ({self.requests} requests with {self.texts} texts and about {self.tokens} tokens "
                "in flight; the limits are CONCH_MAX_IN_FLIGHT_REQUESTS, _TEXTS and _TOKENS); retry when retry-after "
                "says, or send fewer texts at once"
            )
            raise CapacityError(msg, self.line.return_in_s(max(tokens, self.tokens // self.requests)))


class Hold:
    """What one request has in flight.

    Attributes:
        tokens: an estimate, until the request is tokenised.
    """

    def __init__(self, admission: Admission, trace: Trace, tokens: int) -> None:
        self._admission = admission
        self._flow = _flow(trace.caller, tokens)
        self._stated_s = trace.timeout_s
        self._line: Line | None = None
        self.tokens = tokens

    def stand_in_line(self, line: Line | None) -> None:
        """Wait for the server of a line, or for Triton; once for a request, however often it is said.

        Raises:
            CapacityError: that would take too long.
        """
        if self._line is not None:
            return
        line = line or self._admission.line
        line.check(self._flow, self.tokens, self._stated_s)
        line.account(self._flow, self.tokens)
        self._line = line

    def correct(self, tokens: int) -> None:
        """Replace the estimate by what the request really has."""
        self._admission.tokens += tokens - self.tokens
        if self._line is not None:
            self._line.account(self._flow, tokens - self.tokens)
        self.tokens = tokens


def estimated_tokens(
    texts: Sequence[str] | Sequence[Sequence[int]], max_length: int = LONGEST_ROW, *, beside: int = 0
) -> int:
    """Return about how many tokens texts have, each at most `max_length`; rows of token ids are counted.

    Args:
        texts: or their token ids.
        max_length: of a row.
        beside: characters that are in a row with each text.
    """
    sizes = ((len(text) + beside) // CHARACTERS_PER_TOKEN + 2 if isinstance(text, str) else len(text) for text in texts)
    return sum(min(size, max_length) for size in sizes)


def _flow(caller: str, tokens: int) -> Flow:
    return Flow(caller, tokens > _LARGE)
