"""Helpers for tables: the columns of the plan, and ranges of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with exactly these columns and types; columns that it lacks are null."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def between(batches: Iterable[pa.RecordBatch], begin: int, end: int) -> Iterator[pa.RecordBatch]:
    """Rows `begin` to `end` of consecutive batches; later batches are not read."""
    at = 0
    for batch in batches:
        first, last = max(begin - at, 0), min(end - at, len(batch))
        if first < last:
            yield batch.slice(first, last - first)
        at += len(batch)
        if at >= end:
            return
