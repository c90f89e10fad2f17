"""Progress of long work: the protocol by which an export reports its steps, and the command line shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Each = TypeVar("Each")


class Progress(Protocol):
    """A function that is called with every step."""

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
    """Yield the items, and report after each how many of all are done."""
    progress(what, 0, total)
    for number, one in enumerate(each, 1):
        yield one
        progress(what, number, total)
