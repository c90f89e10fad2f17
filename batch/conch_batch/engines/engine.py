"""The interface of engines, and the items that they answer."""

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
"""A text to embed, or a question to rank for. Equal items have equal answers."""


class Answers(NamedTuple):
    """Answers to items.

    Attributes:
        rows: one for each item.
        tokens: computed tokens of all rows.
    """

    rows: pa.RecordBatch
    tokens: int


class Engine(Protocol):
    """Answers items; one for each worker."""

    @property
    def schema(self) -> pa.Schema:
        """Columns of the answers, see `outputs.columns.added`."""

    def compute(self, items: Sequence[Item], /) -> Answers:
        """The answers to all items.

        Raises:
            InvalidInputError: some cannot be answered; `indices` has at least one of them.
            EngineError: no item can be answered.
        """

    def refusals(self, items: Sequence[Item], /) -> dict[Item, str]:
        """The items that cannot be answered, as far as this is known without computing them, with the reasons."""

    def close(self) -> None:
        """Close connections; the engine is not used afterwards."""
