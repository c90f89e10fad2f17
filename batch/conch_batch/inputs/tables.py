"""Tables with the columns that the plan states."""

from __future__ import annotations

import pyarrow as pa


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with exactly these columns in their types; those that it lacks are null."""
    columns = [
        table.column(field.name).cast(field.type) if field.name in table.column_names else _nulls(len(table), field)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _nulls(rows: int, field: pa.Field) -> pa.Array:
    return pa.nulls(rows, field.type)
