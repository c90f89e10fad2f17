"""Limits of calls."""

from __future__ import annotations

from dataclasses import dataclass

from conch_client._inputs import check_integer
from conch_client._transport.deadline import check_timeout

STARTS = 3
"""Attempts of a call whose model is replaced while it runs."""

READY_TIMEOUT_S = 5.0
"""A server that has not answered within this time counts as not ready."""

READY_POLL_S = 0.1

PROBE_EVERY_S, PROBE_TIMEOUT_S = 0.5, 1.0
"""How often each of several servers is asked whether it is ready, and how long it may take: one that hangs is out of
service within the sum."""

READ_TIMEOUT_S = 2.0
"""Seconds for a reading of one of several servers."""

LOOKUP_EVERY_S = 5.0
"""How often the addresses of a name are looked up, as long as DNS servers let records be kept in a cluster."""

LOOKUP_TIMEOUT_S = 30.0
"""Seconds for a lookup for which no call waits."""


@dataclass(frozen=True)
class Limits:
    """Limits of every call.

    Attributes:
        timeout_s: Seconds for a call that states none.
        max_in_flight: Most requests of one call that are under way at once.
        retries: How often a request is repeated while the server cannot be reached.
    """

    timeout_s: float
    max_in_flight: int
    retries: int

    def __post_init__(self) -> None:
        check_timeout(self.timeout_s)
        check_integer(self.max_in_flight, "max_in_flight", least=1)
        check_integer(self.retries, "retries", least=0)
