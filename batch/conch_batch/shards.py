"""Computes one shard: reads its rows, has them answered, and publishes them. Equal inputs make equal bytes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from conch_batch.engines.engine import Answers, Item, items_of
from conch_batch.errors import InputError, RowError
from conch_batch.inputs.files import CSV
from conch_batch.inputs.rows import Reader
from conch_batch.inputs.tables import nested
from conch_batch.job import Embedding
from conch_batch.outputs.columns import with_input

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from conch_batch.engines.engine import Engine
    from conch_batch.inputs.files import File
    from conch_batch.job import Job, Reranking
    from conch_batch.model import Model
    from conch_batch.outputs.store import Store
    from conch_batch.planning.plan import Piece
    from conch_batch.repeats import Answered

_TEXTS = (pa.types.is_string, pa.types.is_large_string)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


class Done(NamedTuple):
    """A published shard.

    Attributes:
        shard: its number.
        rows: rows of the input; a shard of repeated items has none.
        failed: how many of these failed and are not in the shard.
        tokens: computed tokens; equal rows are computed once.
        seconds: time to compute it.
        repeated: whether it is one of repeated items, which have numbers of their own; see `repeats`.
    """

    shard: int
    rows: int
    failed: int
    tokens: int
    seconds: float
    repeated: bool = False


class Corpus(NamedTuple):
    """The source of shards.

    Attributes:
        job: what is computed.
        model: the model that computes it.
        files: files of the input.
        schema: columns of the input.
    """

    job: Job
    model: Model
    files: Sequence[File]
    schema: pa.Schema


class Shards:
    """Computes shards, one after another.

    Args:
        corpus: source of the shards.
        engine: computes the answers.
        store: where shards are published.
        known: answers that are taken from there; None to compute all.
    """

    def __init__(self, corpus: Corpus, engine: Engine, store: Store, known: Answered | None = None) -> None:
        self._job, _, self._files, self._input = corpus
        self._engine, self._store, self._known = engine, store, known
        self._schema = with_input(corpus.schema, engine.schema, corpus.job.prefix)
        self._reader = Reader(corpus.job.text_rows)

    def compute(self, number: int, pieces: Sequence[Piece]) -> Done:
        """Publish a shard.

        Raises:
            BatchError: its rows cannot be read, answered or written, or one fails and `Job.on_error` is "stop".
        """
        began = time.perf_counter()
        table = pa.concat_tables([self._read(piece) for piece in pieces])
        items, failures = items_of(table, self._job.task)
        distinct = list(dict.fromkeys(item for item in items if item is not None))
        (answers, tokens, refused), places = self._answers(distinct)
        failures |= {row: refused[item] for row, item in enumerate(items) if item is not None and item in refused}
        if failures and self._job.on_error == "stop":
            row, reason = min(failures.items())
            msg = f"row {row} of shard {number} cannot be computed: {reason}"
            raise RowError(f"{msg}. --on-error record would write it to a side file")
        which = [places[item] for row, item in enumerate(items) if row not in failures and item is not None]
        # Not `take`, which would join the texts of a column to one array, and that holds 2 GiB at most.
        kept = table.filter(pa.array([row not in failures for row in range(len(table))]))
        joined = [*kept.columns, *answers.take(pa.array(which, pa.int64())).columns]
        shard = pa.Table.from_arrays(joined, schema=self._schema)
        self._store.publish(number, shard, _lines(table, failures))
        return Done(number, len(table), len(failures), tokens, time.perf_counter() - began)

    def _answers(self, items: Sequence[Item]) -> tuple[Answers, dict[Item, int]]:
        """The answers, and the row of each item that has one."""
        there, places = self._known.of(items) if self._known else ([], {})
        missing = [item for item in items if item not in places]
        rows, tokens, refused = self._engine.compute(missing)
        answerable = (item for item in missing if item not in refused)
        places |= {item: place for place, item in enumerate(answerable, len(places))}
        return Answers(pa.concat_batches([*there, rows]), tokens, refused), places

    def _read(self, piece: Piece) -> pa.Table:
        file = self._files[piece.file]
        table = self._reader.read(file, piece.begin, piece.end, self._input)
        if len(table) != piece.rows:
            msg = f"{file.url} has {len(table)} rows where {piece.rows} were counted: it has changed meanwhile"
            raise InputError(f"{msg}, or a value has quotes in it and is in none" if file.kind == CSV else msg)
        return table


def check_columns(schema: pa.Schema, task: Embedding | Reranking) -> None:
    """Refuse an input without the columns that a task reads.

    Raises:
        InputError: names the columns that there are.
    """
    named = (
        {"--text": task.text} if isinstance(task, Embedding) else {"--query": task.query, "--documents": task.documents}
    )
    for option, name in named.items():
        if schema.names.count(name) != 1:
            have = ", ".join(schema.names)
            raise InputError(f"the input has no column {name!r}; it has: {have}. {option} says which it is")
        kind = schema.field(name).type
        if option == "--documents":
            kind = kind.value_type if any(is_kind(kind) for is_kind in _LISTS) else pa.null()
        if not _holds_texts(kind):
            wanted = "lists of texts" if option == "--documents" else "texts"
            raise InputError(
                f"column {name!r} holds {schema.field(name).type} and not {wanted}; {option} names another"
            )


def _holds_texts(kind: pa.DataType) -> bool:
    """Whether values of this type are texts; pandas has categories as a dictionary of them."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(is_kind(kind) for is_kind in _TEXTS)


def _lines(table: pa.Table, failures: Mapping[int, str]) -> bytes:
    """The failed rows with their reasons, as JSON Lines."""
    failed = table.filter(pa.array([row in failures for row in range(len(table))]))
    rows: list[dict[str, Any]] = failed.cast(pa.schema([_without_times(field) for field in failed.schema])).to_pylist()
    lines = [{"error": failures[row], "row": values} for row, values in zip(sorted(failures), rows, strict=True)]
    return b"".join(json.dumps(line, ensure_ascii=False, default=str).encode() + b"\n" for line in lines)


def _without_times(field: pa.Field) -> pa.Field:
    """A field with texts in place of dates and times: Python has none with nanoseconds, or after the year 9999."""
    return field.with_type(pa.string() if pa.types.is_temporal(field.type) else nested(field.type, _without_times))
