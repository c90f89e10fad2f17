"""The rows of every shard, from the inputs alone: neither the machine nor the time has a part in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from conch_batch.errors import InputError
from conch_batch.inputs.rows import unified

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from conch_batch.inputs.files import File
    from conch_batch.inputs.rows import Reader, Scan

_SHARDS = 64
"""Shards of a small corpus: enough to share them among cores evenly."""
FEWEST_ROWS = 32


class Piece(NamedTuple):
    """Rows of one file, between two of its places.

    Attributes:
        file: its number.
        begin: the place of the first row.
        end: the place one past the last row.
        rows: how many they are.
    """

    file: int
    begin: int
    end: int
    rows: int


class Plan(NamedTuple):
    """What a run computes.

    Attributes:
        schema: columns of the input.
        shards: the pieces of every shard.
    """

    schema: pa.Schema
    shards: list[list[Piece]]

    @property
    def rows(self) -> int:
        """Of all shards."""
        return sum(rows_of(shard) for shard in self.shards)


def rows_of(shard: Sequence[Piece]) -> int:
    """Rows of a shard."""
    return sum(piece.rows for piece in shard)


def plan(
    files: Sequence[File],
    reader: Reader,
    *,
    shard_rows: int | None,
    most_rows: int,
    on_file: Callable[[int, int], None],
) -> Plan:
    """Read where the rows are, and divide them.

    Args:
        files: in their order.
        reader: of their rows.
        shard_rows: rows of a shard; None for a 64th of all, at least 32 and at most `most_rows`.
        most_rows: most rows of a shard where none are stated.
        on_file: told how many files of how many have been read.

    Raises:
        InputError: a file cannot be read, or there is no row.
    """
    scans: list[Scan] = []
    for file in files:
        on_file(len(scans), len(files))
        scans.append(reader.scan(file))
    rows = sum(len(scan.places) - 1 for scan in scans)
    if not rows:
        raise InputError("the input has no rows")
    size = shard_rows or min(most_rows, max(FEWEST_ROWS, -(-rows // _SHARDS)))
    return Plan(unified([scan.schema for scan in scans]), _shards([scan.places for scan in scans], size))


def _shards(places: Sequence[NDArray[np.int64]], size: int) -> list[list[Piece]]:
    """Pieces of so many rows together, the last of fewer."""
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
