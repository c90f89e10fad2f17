"""What computes answers, whoever that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from conch_contract import ModelInfo


class Question(NamedTuple):
    """A query and the documents to be ranked for it."""

    query: str
    documents: tuple[str, ...]


Item = str | Question
"""What is answered: a text, or a question. Equal ones have equal answers."""


class Model(NamedTuple):
    """A model as the planner needs to know it.

    Attributes:
        info: what it says of itself.
        identity: all that its answers follow from, by name.
    """

    info: ModelInfo
    identity: Mapping[str, str]


class Engine(Protocol):
    """Answers items; one for each worker."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of answers, see `outputs.columns.added`."""

    def compute(self, items: Sequence[Item], /) -> pa.RecordBatch:
        """The answers, a row for each item.

        Raises:
            InvalidInputError: some cannot be answered; `indices` has at least one of them.
            EngineError: nothing can be answered.
        """

    def refusal(self, item: Item, /) -> str | None:
        """Why this item cannot be answered, None where it can."""
