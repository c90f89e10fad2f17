"""A call that is cancelled ends as cancelled, at whichever moment: together with a failure, it once went on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from conch_client import AsyncClient, UnavailableError
from conch_client._transport.aio import Background, each

from tests.cancelling import ROUNDS, cancelled
from tests.waiting import eventually

if TYPE_CHECKING:
    from conch_client.testing import FakeServer


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_when_one_of_its_requests_fails(rounds: int) -> None:
    gone = asyncio.Event()

    async def request(number: int) -> None:
        await gone.wait()
        await asyncio.sleep(number)
        raise UnavailableError("gone")

    await cancelled(each(range(3), request, max_in_flight=3), gone.set, rounds)


@pytest.mark.parametrize("given_up", ["reset", "close"])
@pytest.mark.parametrize("rounds", ROUNDS)
async def test_when_its_connection_is_given_up(server: FakeServer, given_up: str, rounds: int) -> None:
    async with AsyncClient(server.url, timeout_s=5) as client:
        await client.tokenize(["x"])
        server.received.clear()
        server.gate.clear()
        call = asyncio.create_task(client.embed(["x"]))
        await eventually(lambda: server.received)
        connection = client._servers._pool.members[0].server.connection
        ending = Background()
        await cancelled(call, lambda: ending.start(getattr(connection, given_up)), rounds)
        server.gate.set()
