"""Files of comma- or tab-separated values with a line of names (RFC 4180); a place is a byte. All values stay texts."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow

from conch_batch.inputs.tables import conformed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conch_batch.inputs.files import File

_PIECE = 1 << 22
_QUOTE, _NEWLINE = ord('"'), ord("\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Csv:
    """A row ends with a line end that is in no quotes: before it, the number of quotes in the file is even."""

    def scan(self, file: File) -> tuple[pa.Schema, NDArray[np.int64]]:
        """Reads all of it, a few megabytes at a time."""
        ends, size = _line_ends(file)
        if not len(ends):
            raise ValueError("it has no line of names, followed by rows")
        names = _names(file)
        rows = ends if ends[-1] == size else np.append(ends, size)
        return pa.schema([(name, pa.string()) for name in names]), rows

    def read(self, file: File, begin: int, end: int, schema: pa.Schema) -> pa.Table:
        """The rows between two bytes."""
        names = _names(file)
        with file.open() as content:
            content.seek(begin)
            rows = content.read(end - begin)
        table = arrow.read_csv(
            pa.BufferReader(rows),
            arrow.ReadOptions(column_names=names, block_size=max(len(rows), 1)),
            arrow.ParseOptions(delimiter=_delimiter(file), newlines_in_values=True, ignore_empty_lines=False),
            arrow.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
        return conformed(table, schema)


def _line_ends(file: File) -> tuple[NDArray[np.int64], int]:
    """One past each line end that is in no quotes, and the size."""
    found, at, quotes = [], 0, 0
    with file.open() as content:
        while piece := content.read(_PIECE):
            letters = np.frombuffer(piece, np.uint8)
            inside = (quotes + np.cumsum(letters == _QUOTE)) % 2
            found.append(np.flatnonzero((letters == _NEWLINE) & (inside == 0)) + (at + 1))
            quotes += int((letters == _QUOTE).sum())
            at += len(piece)
    if quotes % 2:
        raise ValueError("a quote is not closed")
    return np.concatenate(found) if found else np.empty(0, np.int64), at


def _names(file: File) -> list[str]:
    with file.open() as content:
        line = content.readline().removeprefix(_BYTE_ORDER_MARK).decode()
    names = next(csv.reader([line], delimiter=_delimiter(file), strict=True), [])
    if any("\n" in name for name in names):
        raise ValueError("the name of a column has a line end in it")
    if len(set(names)) != len(names):
        raise ValueError("its first line names a column twice")
    return names


def _delimiter(file: File) -> str:
    return "\t" if ".tsv" in file.name.lower() else ","
