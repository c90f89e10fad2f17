"""Parquet files; positions are numbers of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from conch_batch.inputs.tables import between, conformed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from conch_batch.inputs.files import File

_BATCH = 4096


class Parquet:
    """Reads only the row groups with the rows that are asked for, a few thousand rows at a time."""

    def scan(self, file: File) -> tuple[pa.Schema, NDArray[np.int64]]:
        """Read the footer."""
        with file.open() as content, pq.ParquetFile(content) as parquet:
            return parquet.schema_arrow, np.arange(parquet.metadata.num_rows + 1)

    def read(self, file: File, begin: int, end: int, schema: pa.Schema) -> pa.Table:
        """Rows `begin` to `end`."""
        with file.open() as content, pq.ParquetFile(content) as parquet:
            batches = list(_between(parquet, begin, end))
            return conformed(pa.Table.from_batches(batches, schema=parquet.schema_arrow), schema)

    def tables(self, file: File, schema: pa.Schema) -> Iterator[pa.Table]:
        """All rows, of which only these columns are read."""
        with file.open() as content, pq.ParquetFile(content) as parquet:
            names = [name for name in schema.names if name in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(_BATCH, columns=names):
                yield conformed(pa.Table.from_batches([batch]), schema)


def _between(parquet: pq.ParquetFile, begin: int, end: int) -> Iterator[pa.RecordBatch]:
    counts = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
    ends = np.cumsum(counts)
    groups = [group for group, last in enumerate(ends) if last > begin and last - counts[group] < end]
    before = int(ends[groups[0]] - counts[groups[0]]) if groups else begin
    batches = parquet.iter_batches(_BATCH, row_groups=groups)
    return between(batches, begin - before, end - before)
