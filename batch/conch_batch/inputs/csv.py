"""CSV (RFC 4180) and TSV files with a header line; positions are bytes. All values are read as strings."""

from __future__ import annotations

import csv
from codecs import getincrementaldecoder
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow

from conch_batch.inputs.files import suffix_of
from conch_batch.inputs.tables import conformed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from conch_batch.inputs.files import File

_PIECE = 1 << 22
_QUOTE, _NEWLINE, _RETURN = (ord(letter) for letter in '"\n\r')
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Csv:
    """A row ends at a line end outside of quotes, which has an even number of quotes before it in the file."""

    def scan(self, file: File) -> tuple[pa.Schema, NDArray[np.int64]]:
        """Read the whole file, a few megabytes at a time. Empty lines are not rows."""
        names = _names(file)
        begins, size = _line_begins(file)
        if not names:
            raise ValueError("it has no header line")
        return pa.schema([(name, pa.string()) for name in names]), np.append(begins[1:], size)

    def read(self, file: File, begin: int, end: int, schema: pa.Schema) -> pa.Table:
        """The rows between two bytes."""
        with file.open() as content:
            content.seek(begin)
            return _table(file, content.read(end - begin), schema)

    def tables(self, file: File, schema: pa.Schema) -> Iterator[pa.Table]:
        """All rows, a few megabytes at a time."""
        with file.open() as content:
            content.readline()
            rows = b""
            for piece, ends in _pieces(content):
                if not len(ends):
                    rows += piece
                    continue
                whole = int(ends[-1]) + 1
                yield from _tables(file, rows + piece[:whole], schema)
                rows = piece[whole:]
            yield from _tables(file, rows, schema)


def _tables(file: File, rows: bytes, schema: pa.Schema) -> Iterator[pa.Table]:
    if rows.strip(b"\r\n"):
        yield _table(file, rows, schema)


def _table(file: File, rows: bytes, schema: pa.Schema) -> pa.Table:
    names = _names(file)
    table = arrow.read_csv(
        pa.BufferReader(rows),
        arrow.ReadOptions(column_names=names, block_size=max(len(rows), 1)),
        arrow.ParseOptions(delimiter=_delimiter(file), newlines_in_values=True),
        arrow.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )
    return conformed(table, schema)


def _pieces(content: IO[bytes]) -> Iterator[tuple[bytes, NDArray[np.int64]]]:
    """A few megabytes at a time, with the places of the line ends in them that are outside of quotes."""
    quotes = 0
    while piece := content.read(_PIECE):
        letters = np.frombuffer(piece, np.uint8)
        inside = (quotes + np.cumsum(letters == _QUOTE)) % 2
        yield piece, np.flatnonzero((letters == _NEWLINE) & (inside == 0))
        quotes = int(inside[-1])
    if quotes:
        raise ValueError("a quote is not closed")


def _line_begins(file: File) -> tuple[NDArray[np.int64], int]:
    """Offsets of the lines that are not empty, where lines end outside of quotes; and the size of the file."""
    ends, ends_in_two = [np.zeros(1, np.int64)], [np.zeros(1, np.bool_)]
    at, last, decoder = 0, 0, getincrementaldecoder("utf-8")()
    with file.open() as content:
        for piece, places in _pieces(content):
            decoder.decode(piece)  # raises UnicodeDecodeError
            letters = np.frombuffer(piece, np.uint8)
            ends.append(places + (at + 1))
            ends_in_two.append(np.append(last, letters[:-1])[places] == _RETURN)
            at, last = at + len(piece), int(letters[-1])
    decoder.decode(b"", final=True)
    begins, sizes = np.concatenate(ends), np.diff(np.concatenate([*ends, [at]]))
    line_ends = np.append(np.where(np.concatenate(ends_in_two)[1:], 2, 1), 0)  # the last line may have no line end
    return begins[sizes > line_ends], at


def _names(file: File) -> list[str]:
    with file.open() as content:
        line = content.readline().removeprefix(_BYTE_ORDER_MARK).decode()
    try:
        names = next(csv.reader([line], delimiter=_delimiter(file), strict=True), [])
    except csv.Error as error:
        raise ValueError(f"its first line holds no names: {error}") from error
    if any("\n" in name for name in names):
        raise ValueError("the name of a column has a line end in it")
    if len(set(names)) != len(names):
        raise ValueError("its first line names a column twice")
    return names


def _delimiter(file: File) -> str:
    return "\t" if suffix_of(file.name) == ".tsv" else ","
