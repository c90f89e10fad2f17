"""Several items at once."""

from __future__ import annotations

import asyncio

import anyio.lowlevel
import pytest
from conch_gateway.concurrency import all_of


async def test_while_thousands_are_begun_other_tasks_have_their_turns() -> None:
    begun: list[int] = []
    seen: list[int] = []
    released = asyncio.Event()

    async def work(item: int) -> int:
        begun.append(item)
        await released.wait()
        return 2 * item

    async def other() -> None:
        while len(begun) < 2048:
            await anyio.lowlevel.checkpoint()
            seen.append(len(begun))
        released.set()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        assert await all_of(work, range(2048)) == list(range(0, 4096, 2))
    assert max(later - earlier for earlier, later in zip([0, *seen], seen, strict=False)) <= 128


async def test_the_first_failure_ends_the_others_and_what_was_not_begun_is_not() -> None:
    begun: list[int] = []

    async def work(item: int) -> None:
        begun.append(item)
        if item == 3:
            raise ValueError("three")
        await asyncio.Event().wait()

    with pytest.raises(ValueError, match="three"):
        await all_of(work, range(2048))
    assert len(begun) < 2048
