"""Files with large answers: how much of them is in memory, or in one transaction."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

from conch_gateway.batches.lines import Answered

from tests.unit.gateway.batches.state import MOST

if TYPE_CHECKING:
    from conch_gateway.batches.records import Batch

    from tests.unit.gateway.batches.state import State

MIB = 2**20


async def ended(state: State, answers: int, size: int) -> Batch:
    """A batch whose answers have so many bytes each."""
    batch = await state.batch(answers)
    for line in await state.one.claim(answers, MOST):
        await state.one.settle([Answered(line, b"%d" % line.number + bytes(size), failed=False)])
    await state.closing.step()
    return await state.ledger.get("me", batch.id)


async def test_a_download_takes_memory_for_a_few_answers_however_large_all_are(state: State) -> None:
    batch = await ended(state, 16, 3 * MIB)
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

    assert found == [b"%d" % number for number in range(1, 17)]
    assert size == file.bytes
    assert most < 24 * MIB
