"""UTF-8 text files, as rows of path, number of the first line, and text; positions are numbers of rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from conch_batch.inputs.tables import conformed
from conch_batch.job import TextRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from conch_batch.inputs.files import File

_SCHEMA = pa.schema([("path", pa.string()), ("line", pa.int64()), ("text", pa.string())])
_PARAGRAPH = re.compile(r"\S.*(?:\n(?!\s*\n).*)*")
_LINE = re.compile(r".*\S.*")


class _Row(NamedTuple):
    line: int
    text: str


class Texts:
    """A row is a file, a paragraph (separated by blank lines) or a line that is not blank.

    Args:
        rows: the unit that becomes a row.
    """

    def __init__(self, rows: TextRows) -> None:
        self._rows = rows

    def scan(self, file: File) -> tuple[pa.Schema, NDArray[np.int64]]:
        """Read the whole file."""
        return _SCHEMA, np.arange(len(self._of(file)) + 1)

    def read(self, file: File, begin: int, end: int, schema: pa.Schema) -> pa.Table:
        """Rows `begin` to `end`."""
        return _table(file, self._of(file)[begin:end], schema)

    def tables(self, file: File, schema: pa.Schema) -> Iterator[pa.Table]:
        """All rows at once."""
        yield _table(file, self._of(file), schema)

    def _of(self, file: File) -> list[_Row]:
        with file.open() as content:
            text = content.read().decode("utf-8-sig")
        if self._rows is TextRows.FILE:
            return [_Row(1, text)]
        pattern = _PARAGRAPH if self._rows is TextRows.PARAGRAPH else _LINE
        rows, line, counted = [], 1, 0
        for match in pattern.finditer(text):
            line += text.count("\n", counted, match.start())
            counted = match.start()
            rows.append(_Row(line, match.group().rstrip()))
        return rows


def _table(file: File, rows: Sequence[_Row], schema: pa.Schema) -> pa.Table:
    lines, texts = [row.line for row in rows], [row.text for row in rows]
    whole = {"path": [file.name] * len(rows), "line": lines, "text": texts}
    return conformed(pa.Table.from_pydict(whole, _SCHEMA), schema)
