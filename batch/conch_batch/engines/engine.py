"""What computes answers, whoever that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa


class Question(NamedTuple):
    """A query and the documents to be ranked for it."""

    query: str
    documents: tuple[str, ...]


Item = str | Question
"""What is answered: a text, or a question. Equal ones have equal answers."""


class Answers(NamedTuple):
    """Answers to items.

    Attributes:
        rows: one for each item.
        tokens: that were computed for all of them.
    """

    rows: pa.RecordBatch
    tokens: int


class Engine(Protocol):
    """Answers items; one for each worker."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of answers, see `outputs.columns.added`."""

    def compute(self, items: Sequence[Item], /) -> Answers:
        """The answers to all items.

        Raises:
            InvalidInputError: some cannot be answered; `indices` has at least one of them.
            EngineError: nothing can be answered.
        """

    def refusals(self, items: Sequence[Item], /) -> dict[Item, str]:
        """Which of these items cannot be answered, as far as that is known without computing them, and why."""

    def close(self) -> None:
        """Let go of connections; nothing is asked afterwards."""
