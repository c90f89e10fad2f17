"""How far a long piece of work is: the one interface between those who work and those who show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Each = TypeVar("Each")


class Progress(Protocol):
    """Told about every step."""

    def __call__(self, what: str, done: int = 0, total: int = 0, /) -> None:
        """A step has begun, or has got so far.

        Args:
            what: the step, in a few words that stay the same while it lasts.
            done: of it, in any unit.
            total: all of it; 0 where that is not known.
        """


def silent(what: str, done: int = 0, total: int = 0, /) -> None:
    """Show nothing."""


def counted(progress: Progress, what: str, each: Iterable[Each], total: int) -> Iterator[Each]:
    """The things one by one, saying after each how many of all are done."""
    progress(what, 0, total)
    for number, one in enumerate(each, 1):
        yield one
        progress(what, number, total)
