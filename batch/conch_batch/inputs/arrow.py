"""Arrow files, as `datasets` saves them (a stream) or as Feather (with a footer); positions are numbers of rows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow as pa

from conch_batch.inputs.tables import between, conformed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from conch_batch.inputs.files import File

_WITH_FOOTER = b"ARROW1"


class Arrow:
    """Reads record batches from the beginning, and keeps the rows that are asked for."""

    def scan(self, file: File) -> tuple[pa.Schema, NDArray[np.int64]]:
        """Read the whole file, a record batch at a time."""
        with file.open() as content, _batches(content) as (schema, batches):
            return schema, np.arange(sum(map(len, batches)) + 1)

    def read(self, file: File, begin: int, end: int, schema: pa.Schema) -> pa.Table:
        """Rows `begin` to `end`."""
        with file.open() as content, _batches(content) as (found, batches):
            return conformed(pa.Table.from_batches(list(between(batches, begin, end)), schema=found), schema)

    def tables(self, file: File, schema: pa.Schema) -> Iterator[pa.Table]:
        """All rows, a record batch at a time."""
        with file.open() as content, _batches(content) as (_, batches):
            for batch in batches:
                yield conformed(pa.Table.from_batches([batch]), schema)


@contextmanager
def _batches(content: IO[bytes]) -> Iterator[tuple[pa.Schema, Iterable[pa.RecordBatch]]]:
    begins = content.read(len(_WITH_FOOTER))
    content.seek(0)
    if begins != _WITH_FOOTER:
        with pa.ipc.open_stream(content) as stream:
            yield stream.schema, stream
        return
    with pa.ipc.open_file(content) as whole:
        yield whole.schema, (whole.get_batch(number) for number in range(whole.num_record_batches))
