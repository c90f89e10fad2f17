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
_BUFFER = 1 << 20
"""Bytes of a column that are read at once; pyarrow would read all of a row group."""


class Parquet:
    """Reads only the row groups with the rows that are asked for, a few thousand rows at a time.

    There is no way to a row of a group but through those before it, so a file stays open where it has been read to: the
    next rows that are asked for are mostly behind.
    """

    def __init__(self) -> None:
        self._open: _Open | None = None

    def scan(self, file: File) -> tuple[pa.Schema, NDArray[np.int64]]:
        """Read the footer."""
        with file.open() as content, pq.ParquetFile(content) as parquet:
            return parquet.schema_arrow, np.arange(parquet.metadata.num_rows + 1)

    def read(self, file: File, begin: int, end: int, schema: pa.Schema) -> pa.Table:
        """Rows `begin` to `end`."""
        if self._open is None or self._open.url != file.url:
            before, self._open = self._open, _Open(file)
            if before is not None:
                before.close()
        return conformed(self._open.rows(begin, end), schema)

    def tables(self, file: File, schema: pa.Schema) -> Iterator[pa.Table]:
        """All rows, of which only these columns are read."""
        with file.open() as content, pq.ParquetFile(content) as parquet:
            names = [name for name in schema.names if name in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(_BATCH, columns=names):
                yield conformed(pa.Table.from_batches([batch]), schema)


class _Open:
    """A file whose row groups are read forwards. The batches depend on the rows only, not on what was read before."""

    def __init__(self, file: File) -> None:
        self.url = file.url
        self._content = file.open()
        self._parquet = pq.ParquetFile(self._content, pre_buffer=False, buffer_size=_BUFFER)
        metadata = self._parquet.metadata
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._begins = np.cumsum([0, *counts])
        self._group = self._at = -1
        self._batch: pa.RecordBatch
        self._batches: Iterator[pa.RecordBatch] = iter(())

    def close(self) -> None:
        """Close the file."""
        self._content.close()

    def rows(self, begin: int, end: int) -> pa.Table:
        """Rows `begin` to `end`, as far as there are any."""
        batches: list[pa.RecordBatch] = []
        end = min(end, int(self._begins[-1]))
        while begin < end:
            group = int(np.searchsorted(self._begins, begin, side="right")) - 1
            upto = min(end, int(self._begins[group + 1]))
            if group != self._group or begin < self._at:
                self._begin(group)
            batches += between(self._from_here(), begin - self._at, upto - self._at)
            begin = upto
        return pa.Table.from_batches(batches, schema=self._parquet.schema_arrow)

    def _begin(self, group: int) -> None:
        batches = self._parquet.iter_batches(_BATCH, row_groups=[group])
        self._batch, self._batches = next(batches), batches
        self._group, self._at = group, int(self._begins[group])

    def _from_here(self) -> Iterator[pa.RecordBatch]:
        """The batch that was read last, and those after it."""
        yield self._batch
        for batch in self._batches:
            self._at, self._batch = self._at + len(self._batch), batch
            yield batch
