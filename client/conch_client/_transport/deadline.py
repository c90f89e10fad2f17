"""One deadline for a whole call, and the delays between attempts within it."""

from __future__ import annotations

import math
import random
import time

from conch_contract import InvalidInputError

from conch_client._errors import DeadlineExceededError, UnavailableError

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 2.0
_A_CENTURY_S = 100 * 365 * 24 * 3600  # gRPC counts nanoseconds since 1970 in 64 bits, and locks count them from now


def check_timeout(timeout_s: float) -> float:
    """``timeout_s`` itself; raises InvalidInputError unless it is a positive, finite number of seconds."""
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or not 0 < timeout_s < math.inf:
        raise InvalidInputError(f"timeout_s must be a positive number of seconds, not {timeout_s!r}")
    return timeout_s


class Deadline:
    """The moment by which a call must be over, however many requests and retries it takes."""

    __slots__ = ("_ends_at", "_timeout_s", "started_at")

    def __init__(self, timeout_s: float) -> None:
        self.started_at = time.monotonic()
        self._timeout_s = check_timeout(timeout_s)
        self._ends_at = self.started_at + min(timeout_s, _A_CENTURY_S)

    def remaining_s(self) -> float:
        """Seconds left; raises DeadlineExceededError when there are none."""
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise self.exceeded()
        return left

    def exceeded(self) -> DeadlineExceededError:
        """The error for a call whose time ran out."""
        return DeadlineExceededError(
            f"the call did not finish within timeout_s={self._timeout_s:g}; raise it or send less at once"
        )


class Backoff:
    """Delays between attempts: exponential, with jitter, so that clients do not all return at the same moment.

    By hand, because every request pays for it: tenacity takes 26 µs of processor time for one that succeeds at once.
    """

    __slots__ = ("_deadline", "_left", "_longest_s")

    def __init__(self, retries: int, deadline: Deadline) -> None:
        self._left = retries
        self._deadline = deadline
        self._longest_s = _FIRST_DELAY_S

    def next_delay_s(self, failure: UnavailableError) -> float:
        """Seconds to wait before the next attempt; raises ``failure`` when no attempt or no time is left for one."""
        delay_s = random.uniform(0.5, 1.0) * self._longest_s  # noqa: S311 - not for cryptography
        if self._left == 0 or delay_s >= self._deadline.remaining_s():
            raise failure
        self._left -= 1
        self._longest_s = min(2 * self._longest_s, _LONGEST_DELAY_S)
        return delay_s
