"""Files with large answers: how much of them is in memory, or in one transaction."""

from __future__ import annotations

import tracemalloc
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from conch_gateway.batches import files, schema
from conch_gateway.batches.lines import Answered
from conch_gateway.errors import DatabaseError, NotStoredError
from sqlalchemy import func, select

from tests.unit.gateway.batches.state import MOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from conch_gateway.batches.records import Batch
    from sqlalchemy import Table

    from tests.unit.gateway.batches.state import State

MIB = 2**20


async def ended(state: State, lines: int, size: int) -> Batch:
    """A batch whose answers have so many bytes each."""
    batch = await state.batch(lines)
    for line in await state.one.claim(lines, MOST):
        await state.one.settle([Answered(line, b"%d" % line.number + bytes(size), failed=False)])
    await state.closing.step()
    return await state.ledger.get("me", batch.id)


async def test_a_download_takes_memory_for_a_few_answers_however_large_all_are(state: State) -> None:
    batch = await ended(state, 10, 3 * MIB)
    file = await state.files.get("me", batch.output_file_id or "")
    found: list[bytes] = []
    size = 0
    tracemalloc.start()
    try:
        async for piece in state.files.content(file):
            size += len(piece)
            found.append(piece.partition(b"\0")[0])
        del piece
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found == [b"%d" % number for number in range(1, 11)]
    assert size == file.bytes
    assert most < 20 * MIB


@contextmanager
def interrupted(state: State, transactions: int) -> Iterator[None]:
    """The database goes away within the block, after so many transactions."""
    begin, left = state.database.begin, transactions

    @asynccontextmanager
    async def begin_while_there() -> AsyncIterator[Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise DatabaseError("the database is away")
        async with begin() as connection:
            yield connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state.database, "begin", begin_while_there)
        yield


async def stored(state: State, table: Table) -> int:
    """The number of rows of a table."""
    async with state.database.begin() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar_one()


@pytest.mark.parametrize(("size", "left"), [(10, 3), (3 * MIB, 5)], ids=["by number", "by size"])
async def test_a_file_is_deleted_in_short_transactions_and_further_after_an_interruption(
    state: State, monkeypatch: pytest.MonkeyPatch, size: int, left: int
) -> None:
    monkeypatch.setattr(files, "_AT_ONCE", 2)
    file_id = (await ended(state, 7, size)).output_file_id or ""
    with interrupted(state, 3), pytest.raises(DatabaseError):
        await state.files.delete("me", file_id)
    assert await stored(state, schema.answers) == left
    with pytest.raises(NotStoredError):
        await state.files.get("me", file_id)
    while await state.files.sweep():
        pass

    assert await stored(state, schema.answers) == 0
    assert await stored(state, schema.files) == 1  # the input


async def test_an_upload_that_is_being_deleted_does_not_become_a_file(state: State) -> None:
    upload = await state.files.upload("me")
    await upload.write(bytes(schema.CHUNK_BYTES))
    with interrupted(state, 1), pytest.raises(DatabaseError):
        await upload.abandon()
    with pytest.raises(NotStoredError, match="too long"):
        await upload.write(bytes(schema.CHUNK_BYTES))
    with pytest.raises(NotStoredError, match="too long"):
        await state.files.complete("me", upload._id, "input.jsonl", None)
    while await state.files.sweep():
        pass

    assert (await stored(state, schema.chunks), await stored(state, schema.files)) == (0, 0)
