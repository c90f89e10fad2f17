"""A small real server, and clients of both kinds that tests use alike."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from conch_client import AsyncClient, Client
from conch_client.testing import FakeModel, FakeServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

SEGMENTED = ("input_ids", "attention_mask", "token_type_ids")


class Both:
    """A client of either kind whose calls are awaited."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self.client, name)
        return (
            call if isinstance(self.client, AsyncClient) else lambda *args, **kw: asyncio.to_thread(call, *args, **kw)
        )


@pytest.fixture
def server() -> Iterator[FakeServer]:
    models = {
        "letters": FakeModel(),
        "overlap": FakeModel(task="late-interaction"),
        "pairs": FakeModel(task="cross-encoder", inputs=SEGMENTED),
    }
    with FakeServer(models) as server:
        yield server


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
async def connect(request: pytest.FixtureRequest, server: FakeServer) -> AsyncIterator[Callable[..., Both]]:
    """Makes clients of the server; closes them afterwards."""
    made: list[Both] = []

    def connect(**options: Any) -> Both:
        made.append(Both(request.param(server.url, **options)))
        return made[-1]

    yield connect
    server.gate.set()
    for both in made:
        await both.close()


@pytest.fixture
def client(connect: Callable[..., Both]) -> Both:
    return connect()
