"""Items that occur in several shards. They are found when a run is planned, and computed before all other items.

They are told by 8 bytes of a hash, which need not be right: an answer is only taken where the items themselves are
equal, and an item that has none is computed in its shard.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from conch_batch.engines.engine import columns_of, items_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from conch_batch.engines.engine import Item
    from conch_batch.job import Embedding, Reranking
    from conch_batch.outputs.store import Store

MOST_ITEMS = 1 << 22
"""Most items that are computed before others; those that are found later are computed in each of their shards."""
MOST_ROWS = 256
"""Most rows of a shard of repeated items. Shards read these where they need one answer, so they are small."""
_SLOTS = 1 << 24
_ROWS = 4096
_CACHE_BYTES = 64 << 20
_TOLD = -1


def find(tables: Iterable[pa.Table], task: Embedding | Reranking, *, rows: int, shard_rows: int) -> Iterator[pa.Table]:
    """Yield tables of some thousand rows, one row for each item that occurs in several shards.

    Args:
        tables: all rows in their order, with the columns of the task.
        task: says which columns make an item.
        rows: number of rows.
        shard_rows: rows of each shard but the last.
    """
    found: list[pa.Table] = []
    count = written = 0
    for table in _again(_slices(tables, shard_rows), task, rows):
        found.append(table)
        count += len(table)
        if count >= _ROWS:
            yield pa.concat_tables(found)
            found, count, written = [], 0, written + count
            if written >= MOST_ITEMS:
                return
    if found:
        yield pa.concat_tables(found)


def _again(slices: Iterable[tuple[int, pa.Table]], task: Embedding | Reranking, rows: int) -> Iterator[pa.Table]:
    """Rows with items that an earlier shard had, one for each item."""
    seen = _Seen(rows)
    for shard, table in slices:
        items, _ = items_of(table, task)
        places = np.flatnonzero([item is not None for item in items])
        hashes, first = np.unique(_hashes(item for item in items if item is not None), return_index=True)
        again = np.sort(places[first[seen.again(hashes, shard)]])
        if len(again):
            yield table.take(pa.array(again))


def _slices(tables: Iterable[pa.Table], shard_rows: int) -> Iterator[tuple[int, pa.Table]]:
    """Consecutive rows of one shard each, with its number."""
    row = 0
    for table in tables:
        at = 0
        while at < len(table):
            shard, place = divmod(row, shard_rows)
            rows = min(_ROWS, shard_rows - place, len(table) - at)
            yield shard, table.slice(at, rows)
            at, row = at + rows, row + rows


class _Seen:
    """Hashes with the shard that had each first. When it holds 12 million of them, it forgets all and begins anew.

    Two arrays with open addressing: 12 bytes for each slot.
    """

    def __init__(self, rows: int) -> None:
        slots = min(_SLOTS, 1 << (2 * rows).bit_length())
        self._hashes, self._shards = np.zeros(slots, np.uint64), np.zeros(slots, np.int32)
        self._held, self._most = 0, slots * 3 // 4

    def again(self, hashes: NDArray[np.uint64], shard: int) -> NDArray[np.bool_]:
        """Whether an earlier shard had each of these different hashes; it is told once only."""
        if self._held + len(hashes) > self._most:
            self._hashes[:] = self._held = 0
        slots = self._slots(hashes, shard)
        first = self._shards[slots]
        found: NDArray[np.bool_] = (first != shard) & (first != _TOLD)
        self._shards[slots[found]] = _TOLD
        return found

    def _slots(self, hashes: NDArray[np.uint64], shard: int) -> NDArray[np.int64]:
        """The slot of each hash; those that have none get the next one that is free."""
        last = len(self._hashes) - 1
        slots, left = (hashes & np.uint64(last)).astype(np.int64), np.arange(len(hashes))
        while len(left):
            at = slots[left]
            free = self._hashes[at] == 0
            self._hashes[at[free]] = hashes[left[free]]  # of two that want one slot the second has it
            self._shards[at[free]] = shard
            is_there = self._hashes[at] == hashes[left]
            self._held += int((free & is_there).sum())
            left = left[~is_there]
            slots[left] = (slots[left] + 1) & last
        return slots


def _hashes(items: Iterable[Item]) -> NDArray[np.uint64]:
    """64 bits of each item, none of which are 0."""
    content = b"".join(blake2b(_bytes(item), digest_size=8).digest() for item in items)
    return np.maximum(np.frombuffer(content, "<u8"), 1)


def _bytes(item: Item) -> bytes:
    return (item if isinstance(item, str) else "\0".join([item.query, *item.documents])).encode()


class Answered:
    """The answers to repeated items, read from the shards where they were published.

    It holds 12 bytes for each of them, and the shards that it has read last.

    Args:
        store: where they were published.
        task: what is computed.
        schema: columns of the answers.
        prefix: of the names of these columns.
    """

    def __init__(self, store: Store, task: Embedding | Reranking, schema: pa.Schema, prefix: str) -> None:
        self._store, self._task, self._schema = store, task, schema
        self._columns = [prefix + name for name in schema.names]
        self._read: dict[int, pa.Table] = {}
        self._read_bytes = 0

    def of(self, items: Sequence[Item]) -> tuple[list[pa.RecordBatch], dict[Item, int]]:
        """The answers that there are to different items, and the row of each of these items in them."""
        known: dict[Item, int] = {}
        batches: list[pa.RecordBatch] = []
        for shard, places in self._places(items):
            table = self._shard(shard)
            theirs, _ = items_of(table, self._task)
            equal = [(items[place], row) for place, row in places if theirs[row] == items[place]]
            known |= {item: len(known) + at for at, (item, _) in enumerate(equal)}
            rows = table.select(self._columns).take(pa.array([row for _, row in equal], pa.int64()))
            batches += pa.Table.from_arrays(rows.columns, schema=self._schema).to_batches()
        return batches, known

    def _places(self, items: Sequence[Item]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Yield shards with the places of items that are likely in them, and the rows there."""
        hashes, rows, begins = self._index
        wanted = _hashes(items)
        at = np.searchsorted(hashes, wanted)
        found = np.flatnonzero(at < len(hashes))
        found = found[hashes[at[found]] == wanted[found]]
        row = rows[at[found]]
        shard = np.searchsorted(begins, row, side="right") - 1
        for number in np.unique(shard):
            of_it = shard == number
            yield int(number), list(zip(found[of_it].tolist(), (row[of_it] - begins[number]).tolist(), strict=True))

    @cached_property
    def _index(self) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int64]]:
        """Sorted hashes, the row of each if all shards are one table, and the row at which each shard begins there."""
        names = columns_of(self._task)
        of_shards = [np.zeros(0, np.uint64)]
        for shard in range(len(self._store.done())):
            items, _ = items_of(self._store.read(shard, names), self._task)
            of_shards.append(_hashes(item for item in items if item is not None))
        hashes = np.concatenate(of_shards)
        rows = np.argsort(hashes, kind="stable").astype(np.int32)
        return hashes[rows], rows, np.cumsum([len(each) for each in of_shards])[:-1]

    def _shard(self, number: int) -> pa.Table:
        table = self._read.pop(number, None)
        if table is None:
            table = self._store.read(number, [*columns_of(self._task), *self._columns])
            self._read_bytes += table.nbytes
        self._read[number] = table  # the last one is that which was used last
        while len(self._read) > 1 and self._read_bytes > _CACHE_BYTES:
            self._read_bytes -= self._read.pop(next(iter(self._read))).nbytes
        return table
