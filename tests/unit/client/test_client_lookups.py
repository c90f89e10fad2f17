"""Clients of a name, while the name server does not answer."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from conch_client import AsyncClient, Client, ConchError, DeadlineExceededError
from conch_client._transport import aio, threads
from conch_client._transport.deadline import Deadline

from tests.unit.client.conftest import Both
from tests.waiting import PATIENCE_S, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from conch_client.testing import FakeServer

NAME = "triton-headless"


class NameServer:
    """Answers while `answers` is set, and says nothing while it is cleared."""

    def __init__(self) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()

    def getaddrinfo(self, host: str, *_: Any, **__: Any) -> list[Any]:
        assert host == NAME
        self.asked.set()
        self.answers.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NameServer]:
    names = NameServer()

    async def awaited(host: str, *_: Any, **__: Any) -> list[Any]:
        return await asyncio.to_thread(names.getaddrinfo, host)

    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", awaited)
    yield names
    names.answers.set()


def address(server: FakeServer) -> str:
    return f"dns:///{NAME}:{server.url.rpartition(':')[2]}"


@pytest.mark.parametrize("kind", [Client, AsyncClient], ids=["sync", "async"])
async def test_a_call_does_not_outlast_its_time(
    kind: Callable[[str], Any], server: FakeServer, names: NameServer
) -> None:
    client = Both(kind(address(server)))
    with anyio.fail_after(PATIENCE_S), pytest.raises(DeadlineExceededError, match=r"timeout_s=0\.2"):
        await client.embed(["x"], timeout_s=0.2)
    names.answers.set()
    assert (await client.embed(["x"])).shape == (1, 8)
    await client.close()


@pytest.mark.usefixtures("names")
async def test_addresses_that_are_late_are_told_from_addresses_that_are_not_there() -> None:
    # However little of the time is left then: a call ends with the error of its deadline, and is not tried again.
    with pytest.raises(DeadlineExceededError):
        await aio.records_of(NAME, Deadline(0.05))
    with pytest.raises(DeadlineExceededError):
        threads.records_of(NAME, Deadline(0.05))


async def test_a_client_that_is_closed_meanwhile_leaves_nothing_running(server: FakeServer, names: NameServer) -> None:
    before = asyncio.all_tasks()
    client = AsyncClient(address(server))
    call = asyncio.create_task(client.embed(["x"]))
    await eventually(names.asked.is_set)
    await client.close()
    names.answers.set()
    with pytest.raises(ConchError, match="the client is closed"):
        await call
    assert asyncio.all_tasks() == before
