"""Tables with the columns that the plan states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with exactly these columns in their types; those that it lacks are null."""
    columns = [
        table.column(field.name).cast(field.type) if field.name in table.column_names else _nulls(len(table), field)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def between(batches: Iterable[pa.RecordBatch], begin: int, end: int) -> Iterator[pa.RecordBatch]:
    """The rows from one number to another, of batches that come one after another; no more of these are taken."""
    at = 0
    for batch in batches:
        first, last = max(begin - at, 0), min(end - at, len(batch))
        if first < last:
            yield batch.slice(first, last - first)
        at += len(batch)
        if at >= end:
            return


def _nulls(rows: int, field: pa.Field) -> pa.Array:
    return pa.nulls(rows, field.type)
