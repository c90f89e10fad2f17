"""Runs a coroutine for several items at once; the first failure cancels the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio.lowlevel

Item = TypeVar("Item")
Result = TypeVar("Result")

_BEGUN_TOGETHER = 64
"""Items that are begun before other tasks have their turn: were thousands, nobody else would be answered meanwhile."""


async def all_of(work: Callable[[Item], Awaitable[Result]], items: Sequence[Item]) -> list[Result]:
    """Do the work for all items at once and return the results in order; the first failure cancels the others."""
    if len(items) == 1:
        return [await work(items[0])]
    results: dict[int, Result] = {}
    failures: list[Exception] = []

    async def do(place: int) -> None:
        try:
            results[place] = await work(items[place])
        except Exception as error:  # noqa: BLE001 - raised below, and not in a group with those that it ends
            failures.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for place in range(len(items)):
            if place and place % _BEGUN_TOGETHER == 0:
                await anyio.lowlevel.checkpoint()
            group.start_soon(do, place)
    if failures:
        raise failures[0]
    return [results[place] for place in range(len(items))]
