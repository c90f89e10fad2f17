"""Many callers at once: one client for all threads, one for all tasks, and tasks that are cancelled."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import anyio
import numpy as np
import pytest
from conch_client import AsyncClient, Client, ConchError
from conch_client._inputs import Inputs
from conch_client._transport import threads
from conch_client._transport.address import Address

from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from conch_client.testing import FakeServer

TEXTS = [letter * (1 + number % 50) for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz" * 2)]


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url, max_in_flight=2) as client:
        yield client


def test_threads_share_a_client(server: FakeServer) -> None:
    start = threading.Barrier(8)

    def work(number: int) -> bool:
        start.wait()
        mine = TEXTS[number:] + TEXTS[:number]
        vectors = np.roll(client.embed(mine), number, axis=0)
        ranking = client.rerank(TEXTS[number], TEXTS, model="overlap")
        return np.allclose(vectors, expected, atol=1e-6) and sorted(ranked.index for ranked in ranking) == list(
            range(len(TEXTS))
        )

    with Client(server.url) as alone:
        expected = alone.embed(TEXTS)
    with Client(server.url) as client, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_a_connection_that_is_closed_while_it_connects_anew_leaves_none_open(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def channel(_: Address) -> Any:
        made.append(Mock())
        if len(made) == 2:
            connection.close()
        return made[-1]

    monkeypatch.setattr(threads, "_channel", channel)
    connection = threads.Connection(Address("127.0.0.1:1"))
    connection.reset()
    assert all(each.channel.close.called for each in made)


async def test_tasks_share_a_client(client: AsyncClient) -> None:
    expected = await client.embed(TEXTS)
    found = await asyncio.gather(*(client.embed([text]) for text in TEXTS))
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)


async def test_a_cancelled_call_sends_no_more(client: AsyncClient, server: FakeServer) -> None:
    await client.tokenize(["x"])
    server.received.clear()
    server.gate.clear()
    call = asyncio.create_task(client.embed(TEXTS))
    await eventually(lambda: len(server.received) >= 2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    server.gate.set()
    assert len(server.received) == 2
    assert (await client.embed(["x"])).shape == (1, 8)


async def test_a_first_call_that_is_cancelled_leaves_the_way_free_for_others(
    client: AsyncClient, server: FakeServer
) -> None:
    server.gate.clear()
    first, second = (asyncio.create_task(client.embed(["x"])) for _ in range(2))
    await eventually(lambda: server.received)
    first.cancel()
    server.gate.set()
    assert (await second).shape == (1, 8)


async def test_large_inputs_are_tokenised_off_the_loop(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    await client.tokenize(["x"])
    session: Any = client._session
    tokenizer = (await session.load("letters", ("embedding",), _soon())).tokenizer
    threads: list[bool] = []
    encode = tokenizer.encode

    def noting(texts: list[str], **options: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return (yield from encode(texts, **options))

    monkeypatch.setattr(tokenizer, "encode", noting)
    await client.embed(["few"])
    await client.embed(["many"] * 100)
    assert threads == [True, False]
    assert Inputs(["many"] * 100, None).heavy


def _soon() -> Any:
    from conch_client._transport.deadline import Deadline

    return Deadline(5)


def test_an_async_client_may_be_made_before_there_is_a_loop(server: FakeServer) -> None:
    client = AsyncClient(server.url)

    async def use() -> Any:
        async with client:
            return await client.embed(["x"])

    assert asyncio.run(use()).shape == (1, 8)


def test_an_async_client_that_is_used_in_another_loop_says_so(server: FakeServer) -> None:
    client = AsyncClient(server.url)
    assert asyncio.run(client.embed(["x"])).shape == (1, 8)
    with pytest.raises(ConchError, match="make a client for each loop"):
        asyncio.run(client.embed(["x"]))


@pytest.mark.parametrize("texts", [["x"], TEXTS], ids=["one request", "several"])
async def test_a_call_that_a_cancel_scope_ends_ends_as_its_own(
    client: AsyncClient, server: FakeServer, texts: list[str]
) -> None:
    await client.tokenize(["x"])
    server.received.clear()
    server.gate.clear()
    scope = anyio.CancelScope()

    async def hang_up() -> None:
        await eventually(lambda: server.received)
        scope.cancel()

    hanging_up = asyncio.create_task(hang_up())
    with scope:
        await client.embed(texts)
    await hanging_up
    server.gate.set()

    assert scope.cancelled_caught
