"""Helpers for tables: the columns of the plan, and ranges of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with exactly these columns and types; columns that it lacks are null."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def nested(kind: pa.DataType, changed: Callable[[pa.Field], pa.Field]) -> pa.DataType:
    """The type with other fields in it; a type that is not nested as it is."""
    if pa.types.is_struct(kind):
        return pa.struct(map(changed, kind))
    if pa.types.is_list(kind):
        return pa.list_(changed(kind.value_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(changed(kind.value_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(changed(kind.value_field), kind.list_size)
    return pa.map_(kind.key_type, changed(kind.item_field)) if pa.types.is_map(kind) else kind


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
