"""What both sessions are told, and what both say."""

from __future__ import annotations

from dataclasses import dataclass

from conch_contract import InvalidInputError

from conch_client._deadline import check_timeout
from conch_client._inputs import check_count

STARTS = 3
"""How often a call may start anew because its model was replaced while it ran."""

READY_TIMEOUT_S = 5.0
"""How long a server may take to say whether it is ready before it counts as not ready."""

READY_POLL_S = 0.1

SESSION_CLOSED = "the client is closed; create a new one"
MODEL_KEEPS_CHANGING = (
    "the model was replaced again and again while the call ran; try again when the deployment is over"
)
NOT_READY = "no model became ready in time; see the server's log, or raise timeout_s"


@dataclass(frozen=True)
class Settings:
    """Limits of every call.

    Attributes:
        timeout_s: Seconds for a call that does not say its own.
        max_in_flight: Most requests of one call that are under way at once.
        retries: How often a request is repeated while the server cannot be reached.
    """

    timeout_s: float
    max_in_flight: int
    retries: int

    def __post_init__(self) -> None:
        check_timeout(self.timeout_s)
        check_count(self.max_in_flight, "max_in_flight")
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise InvalidInputError(f"retries must be an integer of at least 0, not {self.retries!r}")
