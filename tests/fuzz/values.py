"""Typed values out of fuzzed bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
TEXT_BYTES = 64


class Values:
    """Takes values from the front of the bytes; zeros and empty texts when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._left = data

    def integer(self, low: int, high: int) -> int:
        """An integer of at least `low` and at most `high`."""
        return low + (self._take(1) or b"\0")[0] % (high - low + 1)

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.integer(0, len(options) - 1)]

    def text(self) -> str:
        """Up to 64 bytes as UTF-8; what is none is replaced."""
        return self._take(self.integer(0, TEXT_BYTES)).decode(errors="replace")

    def _take(self, size: int) -> bytes:
        taken, self._left = self._left[:size], self._left[size:]
        return taken
