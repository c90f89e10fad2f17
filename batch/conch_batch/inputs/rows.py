"""Rows of a file in any format: a scan finds their positions, and rows between two positions are read as a table.

Positions are bytes in JSON Lines and CSV files, and numbers of rows in others. A worker reads only its part of a large
file: its bytes of an uncompressed one, the row groups with its rows of Parquet. Text files are read as a whole, Arrow
and compressed files from the beginning.

The columns and positions that a scan finds are written into the plan, and are used when rows are read.
"""

from __future__ import annotations

import lzma
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pyarrow as pa

from conch_batch.errors import InputError
from conch_batch.inputs import arrow, csv, files, jsonl, parquet, texts
from conch_batch.inputs.encoding import not_utf8
from conch_batch.inputs.tables import nested

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from conch_batch.inputs.files import File
    from conch_batch.job import TextRows


_UNREADABLE = (
    *(pa.ArrowException, OSError, EOFError, ValueError),
    *(zlib.error, lzma.LZMAError),  # compressed bytes are damaged
    *(OverflowError, RecursionError),  # JSON has a number or a nesting that is too large
)
_IN_UTF8 = {files.CSV, files.JSONL, files.TEXT}


class Scan(NamedTuple):
    """The columns and rows of a file.

    Attributes:
        schema: its columns.
        places: int64 [rows + 1], the position at which each row begins, and at which the last one ends.
    """

    schema: pa.Schema
    places: NDArray[np.int64]


class _Format(Protocol):
    def scan(self, file: File, /) -> tuple[pa.Schema, NDArray[np.int64]]: ...
    def read(self, file: File, begin: int, end: int, schema: pa.Schema, /) -> pa.Table: ...
    def tables(self, file: File, schema: pa.Schema, /) -> Iterator[pa.Table]: ...


class Reader:
    """Reads files of all formats.

    Args:
        text_rows: unit of a text file that becomes a row.
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
        """The columns of a file and the positions of its rows; raises InputError."""
        with _named(file):
            return Scan(*self._formats[file.kind].scan(file))

    def read(self, file: File, begin: int, end: int, schema: pa.Schema) -> pa.Table:
        """The rows between two positions, with these columns; a column that the file lacks is null.

        Raises:
            InputError: they cannot be read.
        """
        with _named(file):
            return self._formats[file.kind].read(file, begin, end, schema)

    def tables(self, file: File, schema: pa.Schema) -> Iterator[pa.Table]:
        """All rows in their order with these columns, a part at a time; raises InputError."""
        with _named(file):
            yield from self._formats[file.kind].tables(file, schema)


def unified(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The columns of all files together. Metadata of files, which describe their own columns only, are dropped.

    Raises:
        InputError: a column has values of different kinds.
    """
    for schema in schemas:
        if len(set(schema.names)) < len(schema.names):
            raise InputError(f"a file of the input has two columns of one name: {', '.join(schema.names)}; rename one")
    try:
        return pa.unify_schemas([pa.schema(map(_plain, schema)) for schema in schemas], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"the files of the input have a column in different types: {error}") from error


def _plain(field: pa.Field) -> pa.Field:
    """The field as it may be null, in rows of files that lack it, and without views, of which pyarrow takes no rows."""
    texts, octets = pa.types.is_string_view(field.type), pa.types.is_binary_view(field.type)
    kind = pa.string() if texts else pa.binary() if octets else nested(field.type, _plain)
    return field.with_type(kind).with_nullable(nullable=True)


@contextmanager
def _named(file: File) -> Iterator[None]:
    """Name the file in errors of its reader."""
    try:
        yield
    except _UNREADABLE as error:
        is_decoding = isinstance(error, UnicodeDecodeError) and file.kind in _IN_UTF8
        reason = not_utf8(file) if is_decoding else error
        raise InputError(f"{file.url} cannot be read as {file.kind}: {reason}") from error
