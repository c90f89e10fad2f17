"""Limits the number of retries, so that they do not overload servers that fail."""

from __future__ import annotations

_SHARE = 0.2
_RESERVE = 256.0
"""Most calls under way at one server when it dies, all of which are repeated at once."""


class RetryBudget:
    """Lets one call in five be repeated, and a burst of ``reserve`` beyond that (as Finagle's budget does)."""

    __slots__ = ("_left", "_reserve", "_share")

    def __init__(self, share: float = _SHARE, reserve: float = _RESERVE) -> None:
        self._share = share
        self._reserve = reserve
        self._left = reserve

    def earn(self) -> None:
        """Count a first attempt of a call."""
        self._left = min(self._reserve, self._left + self._share)

    def spend(self) -> bool:
        """Return whether a call may be repeated, and count the retry."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
