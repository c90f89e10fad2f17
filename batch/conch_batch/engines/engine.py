"""The interface of engines, and the items that they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pyarrow as pa

from conch_batch.errors import InputError
from conch_batch.job import Embedding, Reranking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PROBE = "a text"
_SHOWN = 60


class Question(NamedTuple):
    """A query and the documents to be ranked for it."""

    query: str
    documents: tuple[str, ...]


Item = str | Question
"""A text to embed, or a question to rank for. Equal items have equal answers."""


def probe(task: Embedding | Reranking) -> Item:
    """A short item that every model of a task can answer, to try the options of the task with."""
    return Question(_PROBE, (_PROBE,)) if isinstance(task, Reranking) else _PROBE


def columns_of(task: Embedding | Reranking) -> list[str]:
    """Names of the columns that items are made of."""
    return [task.text] if isinstance(task, Embedding) else [task.query, task.documents]


def items_of(table: pa.Table, task: Embedding | Reranking) -> tuple[list[Item | None], dict[int, str]]:
    """The item of every row, and for rows that have none the reason.

    An empty text is none, as in the gateway: its vector would say nothing of the row.

    Raises:
        InputError: a text is not in UTF-8, which Parquet and Arrow files do not rule out.
    """
    if isinstance(task, Embedding):
        texts = _values(table, task.text)
        reasons = {None: f"{task.text} is null", "": f"{task.text} is empty"}
        return [text or None for text in texts], {row: reasons[text] for row, text in enumerate(texts) if not text}
    queries, lists = _values(table, task.query), _values(table, task.documents)
    items: list[Item | None] = []
    failures = {}
    for row, (query, documents) in enumerate(zip(queries, lists, strict=True)):
        whole = query and documents and None not in documents
        items.append(Question(query, tuple(documents)) if whole else None)
        if not whole:
            failures[row] = f"{task.query} is null or empty, one of {task.documents} is null, or there is no document"
    return items, failures


def _values(table: pa.Table, name: str) -> list[Any]:
    try:
        values: list[Any] = table.column(name).to_pylist()
    except UnicodeDecodeError as error:
        shown = repr(error.object)[:_SHOWN]
        msg = f"column {name!r} has a text that is not in UTF-8, {shown}: convert it, and write the file again"
        raise InputError(msg) from error
    return values


class Answers(NamedTuple):
    """Answers to items.

    Attributes:
        rows: one for each item that can be answered, in their order.
        tokens: computed tokens of all rows.
        refused: the other items, and why they cannot be answered.
    """

    rows: pa.RecordBatch
    tokens: int
    refused: Mapping[Item, str]


def no_answers(schema: pa.Schema, refused: Mapping[Item, str]) -> Answers:
    """The answers where all items are refused, or there are none."""
    return Answers(pa.RecordBatch.from_pylist([], schema=schema), 0, refused)


class Engine(Protocol):
    """Answers items; one for each worker."""

    @property
    def schema(self) -> pa.Schema:
        """Columns of the answers: those of the model."""

    def compute(self, items: Sequence[Item], /) -> Answers:
        """The answers to different items.

        Raises:
            EngineError: no item can be answered.
        """

    def close(self) -> None:
        """Close connections; the engine is not used afterwards."""
