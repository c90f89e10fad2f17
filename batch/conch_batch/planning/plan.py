"""Divides the rows of the inputs into shards. The result depends on the inputs and options only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from conch_batch.errors import InputError
from conch_batch.inputs.rows import unified

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from conch_batch.inputs.files import File
    from conch_batch.inputs.rows import Reader, Scan

_SHARDS = 64
"""Shards of a small corpus; enough to keep many cores evenly busy."""
FEWEST_ROWS = 32


class Piece(NamedTuple):
    """Consecutive rows of one file.

    Attributes:
        file: number of the file.
        begin: position of the first row.
        end: position after the last row.
        rows: number of rows.
    """

    file: int
    begin: int
    end: int
    rows: int


class Plan(NamedTuple):
    """The shards of a run.

    Attributes:
        schema: columns of the input.
        shards: pieces of every shard.
        repeated: pieces of the shards of repeated items, in files of their own; see `repeats`.
    """

    schema: pa.Schema
    shards: list[list[Piece]]
    repeated: list[list[Piece]]

    @property
    def rows(self) -> int:
        """Rows of all shards."""
        return sum(rows_of(shard) for shard in self.shards)


def rows_of(shard: Sequence[Piece]) -> int:
    """Rows of a shard."""
    return sum(piece.rows for piece in shard)


def files_of(shards: Sequence[Sequence[Piece]]) -> int:
    """Number of the files that these shards are of."""
    return shards[-1][-1].file + 1 if shards else 0


def plan(
    files: Sequence[File],
    reader: Reader,
    *,
    shard_rows: int | None,
    most_rows: int,
    on_file: Callable[[int, int], None],
) -> Plan:
    """Find the positions of all rows, and divide the rows into shards.

    Args:
        files: files of the input, in their order.
        reader: reads the files.
        shard_rows: rows of a shard; None for a 64th of all, at least 32 and at most `most_rows`.
        most_rows: most rows of a shard if `shard_rows` is None.
        on_file: receives the number of files that have been read, and the number of all files.

    Raises:
        InputError: a file cannot be read, or there are no rows.
    """
    scans: list[Scan] = []
    for file in files:
        on_file(len(scans), len(files))
        scans.append(reader.scan(file))
    places = [scan.places for scan in scans]
    rows = sum(len(each) - 1 for each in places)
    if not rows:
        raise InputError("the input has no rows")
    shards = _shards(places, shard_rows or _size(rows, most_rows))
    return Plan(unified([scan.schema for scan in scans]), shards, [])


def plan_repeated(rows: Sequence[int], most_rows: int) -> list[list[Piece]]:
    """Divide files of so many repeated items into shards of at most `most_rows` rows."""
    return _shards([np.arange(each + 1) for each in rows], _size(sum(rows), most_rows)) if rows else []


def _size(rows: int, most_rows: int) -> int:
    return min(most_rows, max(FEWEST_ROWS, -(-rows // _SHARDS)))


def _shards(places: Sequence[NDArray[np.int64]], size: int) -> list[list[Piece]]:
    """Shards of `size` rows each; the last may have fewer."""
    shards: list[list[Piece]] = [[]]
    room = size
    for number, of_file in enumerate(places):
        row, rows = 0, len(of_file) - 1
        while row < rows:
            if not room:
                shards.append([])
                room = size
            taken = min(room, rows - row)
            shards[-1].append(Piece(number, int(of_file[row]), int(of_file[row + taken]), taken))
            row, room = row + taken, room - taken
    return shards
