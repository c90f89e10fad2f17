"""A request's calls to a backend, each in a slot of its own, so that other requests' calls get slots in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio
from conch_client import InvalidInputError

from conch_gateway.concurrency import all_of
from conch_gateway.scheduling.admission import Backlog, Reservation
from conch_gateway.scheduling.sizes import CALL_TOKENS_CROWDED, Spread, split

Result = TypeVar("Result")


async def in_calls(
    ask: Callable[[Sequence[int]], Awaitable[Result]],
    sizes: Sequence[int],
    reservation: Reservation,
    backlog: Backlog,
    max_rows: int,
    *,
    alike: bool = False,
    spread: bool = False,
) -> list[tuple[Sequence[int], Result]]:
    """Join a backlog, split rows into calls, and return each call's rows, given by their places, and its result.

    Args:
        ask: makes the call for the rows at these places.
        sizes: of the rows, in tokens.
        reservation: of the request.
        backlog: of the backend.
        max_rows: most rows of a call.
        alike: whether rows of similar size go together.
        spread: whether the rows are divided among all idle instances, in more calls than necessary.

    Raises:
        CapacityError: the request would wait too long.
        InvalidInputError: with indices among all rows.
    """
    reservation.join(backlog, sizes, max_rows)
    slots, flow = backlog.slots, reservation.entry.flow
    parts = Spread.of(sum(sizes), len(sizes), max_rows, slots.idle) if spread else Spread()
    if flow.in_background and slots.short(flow.work):
        max_rows = min(max_rows, max(1, CALL_TOKENS_CROWDED // max(1, *sizes)))

    async def call(numbered: tuple[int, Sequence[int]]) -> tuple[Sequence[int], Result]:
        number, places = numbered
        if delay_s := parts.delay_s(number):
            await anyio.sleep(delay_s)
        async with slots.slot(reservation.entry, sum(sizes[place] for place in places)):
            try:
                return places, await ask(places)
            except InvalidInputError as error:
                raise error.moved(places) from error

    return await all_of(call, list(enumerate(split(sizes, max_rows, calls=parts.calls, alike=alike))))
