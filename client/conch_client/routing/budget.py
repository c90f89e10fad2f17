"""How many calls may be repeated, so that retries of a failing fleet never become its load."""

from __future__ import annotations

_SHARE = 0.2
_RESERVE = 256.0
"""Calls that may be under way at one server when it dies; all of them are repeated at once."""


class RetryBudget:
    """Lets one call in five be repeated, and a burst of ``reserve`` beyond that (as Finagle's budget does)."""

    __slots__ = ("_left", "_reserve", "_share")

    def __init__(self, share: float = _SHARE, reserve: float = _RESERVE) -> None:
        self._share = share
        self._reserve = reserve
        self._left = reserve

    def earn(self) -> None:
        """Takes note of a call that was made for the first time."""
        self._left = min(self._reserve, self._left + self._share)

    def spend(self) -> bool:
        """Whether a call may be repeated, which it then counts as."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
