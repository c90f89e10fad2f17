"""Rows of a file: where each begins, and the rows between two places as a table, for every format.

Places are numbers of rows in a Parquet or text file and bytes in one of lines, so that a worker
reads its part of a large file: of uncompressed lines that part alone, of Parquet the row groups that hold it. A text
file is read whole, an Arrow or compressed one from its beginning.

What a scan finds is written into the plan; nothing is guessed again when rows are read.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pyarrow as pa

from conch_batch.errors import InputError
from conch_batch.inputs import arrow, csv, files, jsonl, parquet, texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from conch_batch.inputs.files import File
    from conch_batch.job import TextRows


class Scan(NamedTuple):
    """What is known of a file before its rows are computed.

    Attributes:
        schema: its columns.
        places: int64 [rows + 1], where each row begins, and where the last one ends.
    """

    schema: pa.Schema
    places: NDArray[np.int64]


class _Format(Protocol):
    def scan(self, file: File, /) -> tuple[pa.Schema, NDArray[np.int64]]: ...
    def read(self, file: File, begin: int, end: int, schema: pa.Schema, /) -> pa.Table: ...


class Reader:
    """Reads files of all formats.

    Args:
        text_rows: what of a text file is a row.
    """

    def __init__(self, text_rows: TextRows) -> None:
        self._formats: Mapping[str, _Format] = {
            files.PARQUET: parquet.Parquet(),
            files.ARROW: arrow.Arrow(),
            files.JSONL: jsonl.JsonLines(),
            files.CSV: csv.Csv(),
            files.TEXT: texts.Texts(text_rows),
        }

    def scan(self, file: File) -> Scan:
        """The columns of a file and the places of its rows; raises InputError."""
        with _named(file):
            return Scan(*self._formats[file.kind].scan(file))

    def read(self, file: File, begin: int, end: int, schema: pa.Schema) -> pa.Table:
        """The rows from one place to another, with these columns; one that the file lacks is null.

        Raises:
            InputError: they cannot be read.
        """
        with _named(file):
            return self._formats[file.kind].read(file, begin, end, schema)


def unified(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The columns of all files together, without what their metadata say of fewer columns than there will be.

    Raises:
        InputError: a column has values of different kinds.
    """
    try:
        return pa.unify_schemas([schema.remove_metadata() for schema in schemas], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"the files of the input have a column in different types: {error}") from error


@contextmanager
def _named(file: File) -> Iterator[None]:
    """Name the file in errors of those who read it."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, ValueError) as error:
        raise InputError(f"{file.url} cannot be read as {file.kind}: {error}") from error
