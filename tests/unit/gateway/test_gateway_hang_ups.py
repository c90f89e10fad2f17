"""Callers who hang up, time that runs out, a gateway that stops: each request ends as what happened to it."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import anyio
import httpx
import pytest
from conch_client import AsyncClient, UnavailableError
from conch_client.testing import FakeModel, FakeServer
from conch_gateway import Gateway, GatewaySettings, create_app
from conch_gateway.auth.keys import create_key
from conch_gateway.middleware import requests as middleware
from conch_gateway.models.arrival import Arrival

from tests.raw_http import request
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
    from pathlib import Path

    from starlette.applications import Starlette

    from tests.unit.gateway.conftest import StandIn

TASKS = ("embedding", "multi-vector", "late-interaction")
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "vectors": ("/v1/embeddings", {"model": "embedding", "input": "a"}),
    "token vectors": ("/v1/embeddings", {"model": "multi-vector", "input": "a", "vector_type": "late"}),
    "a ranking": ("/v1/rerank", {"model": "late-interaction", "query": "a", "documents": ["a"]}),
    "a ranking in several calls": ("/v1/rerank", {"model": "late-interaction", "query": "a", "documents": ["a"] * 12}),
}


@pytest.fixture
def triton() -> Iterator[FakeServer]:
    with FakeServer({task: FakeModel(task=task) for task in TASKS}) as server:
        yield server
        server.gate.set()


@pytest.fixture(autouse=True)
def _watched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_PATIENCE_S", 0.0)


class Caller:
    """Sends one request to an application, and hangs up when it is told to."""

    def __init__(self, what: str, secret: str = "") -> None:
        path, body = REQUESTS[what]
        headers = [(b"api-key", secret.encode())]
        self.scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
        self.hang_up = asyncio.Event()
        self.status: int | None = None
        self._messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive(self) -> dict[str, Any]:
        if self._messages:
            return self._messages.pop()
        await self.hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.status = message.get("status", self.status)

    async def ask(self, app: Starlette) -> int | None:
        """The status of the answer."""
        await app(cast("Any", self.scope), self.receive, cast("Any", self.send))
        return self.status


@asynccontextmanager
async def under_way(client: AsyncClient, what: str, entered: Callable[[], object]) -> AsyncIterator[Any]:
    """A caller and the task of its request, which waits for the model."""
    app, caller = create_app(GatewaySettings(), client), Caller(what)
    async with app.router.lifespan_context(app):
        asked = asyncio.create_task(caller.ask(app))
        await eventually(entered)
        yield caller, asked


@pytest.mark.parametrize("what", REQUESTS)
async def test_who_hangs_up_while_triton_computes_is_no_failure_of_the_server(
    triton: FakeServer, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    client = AsyncClient(triton.url)
    await client.tokenize(["a"], model=str(REQUESTS[what][1]["model"]))
    triton.received.clear()
    triton.gate.clear()
    async with under_way(client, what, lambda: triton.received) as (caller, asked):
        caller.hang_up.set()
        assert await asked == 499
        triton.gate.set()

    assert not caplog.records


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    """Keys: `poor` has a token a minute, which it may overdraw once."""
    path = tmp_path / "keys.json"
    return {"poor": create_key(path, "poor", tokens_per_minute=1), "rich": create_key(path, "rich")}


@pytest.fixture
async def app(triton: FakeServer, secrets: dict[str, str], tmp_path: Path) -> AsyncIterator[Starlette]:
    """An application with keys that makes one call at a time, and has the tokenizers."""
    client = AsyncClient(triton.url)
    app = create_app(GatewaySettings(api_keys_file=tmp_path / "keys.json", triton_calls=1), client)
    async with app.router.lifespan_context(app):
        for model in TASKS:
            await client.tokenize(["a"], model=model)
        triton.received.clear()
        triton.gate.clear()
        yield app


@pytest.mark.parametrize("what", REQUESTS)
async def test_what_is_under_way_when_its_caller_hangs_up_counts_towards_the_quota(
    triton: FakeServer, app: Starlette, secrets: dict[str, str], what: str
) -> None:
    caller = Caller(what, secrets["poor"])
    asked = asyncio.create_task(caller.ask(app))
    await eventually(lambda: triton.received)
    caller.hang_up.set()
    assert await asked == 499
    triton.gate.set()

    assert await Caller(what, secrets["poor"]).ask(app) == 429


@pytest.mark.parametrize("what", REQUESTS)
async def test_what_waits_when_its_caller_hangs_up_does_not(
    triton: FakeServer, app: Starlette, secrets: dict[str, str], what: str
) -> None:
    first, caller = Caller(what, secrets["rich"]), Caller(what, secrets["poor"])
    computed = asyncio.create_task(first.ask(app))
    await eventually(lambda: triton.received)
    asked = asyncio.create_task(caller.ask(app))
    waiting = {"model": str(REQUESTS[what][1]["model"]), "state": "waiting"}
    registry = app.state.metrics.registry
    await eventually(lambda: registry.get_sample_value("conch_gateway_backlog_requests", waiting))
    caller.hang_up.set()
    assert await asked == 499
    triton.gate.set()

    assert await computed == 200
    assert await Caller(what, secrets["poor"]).ask(app) == 200


@pytest.mark.parametrize("what", REQUESTS)
async def test_who_states_too_short_a_time_is_told_so(triton: FakeServer, what: str) -> None:
    client, caller = AsyncClient(triton.url), Caller(what)
    app = create_app(GatewaySettings(), client)
    async with app.router.lifespan_context(app):
        await client.tokenize(["a"], model=str(REQUESTS[what][1]["model"]))
        triton.gate.clear()
        caller.scope["headers"] = [(b"x-request-timeout-s", b"0.2")]
        assert await caller.ask(app) == 504
        triton.gate.set()


class Swapping:
    """Work that ends as something else than the CancelledError by which it is ended."""

    def __init__(self, ends_as: BaseException) -> None:
        self.entered = asyncio.Event()
        self._ends_as = ends_as

    async def __call__(self, *_: object, **__: object) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise self._ends_as from None


@pytest.mark.parametrize("error", [asyncio.CancelledError(), UnavailableError("away"), KeyError(0)], ids=repr)
async def test_whatever_the_end_of_the_work_becomes_who_has_gone_is_answered_and_logged_as_gone(
    client: StandIn, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    work = Swapping(error)
    monkeypatch.setattr(client, "rerank", work)
    client.rename("overlap", "late-interaction")
    async with under_way(client, "a ranking", work.entered.is_set) as (caller, asked):
        caller.hang_up.set()
        assert await asked == 499

    assert not caplog.records


async def test_a_gateway_that_stops_says_so_whatever_the_end_of_the_work_becomes(
    client: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Swapping(asyncio.CancelledError())
    monkeypatch.setattr(client, "rerank", work)
    client.rename("overlap", "late-interaction")
    async with under_way(client, "a ranking", work.entered.is_set) as (_, asked):
        asked.cancel()  # as uvicorn does at the end of the grace period
        assert await asked == 503


@pytest.mark.skipif(sys.version_info < (3, 11), reason="only from then on a task says whether it was cancelled")
async def test_what_is_cancelled_without_a_reason_is_a_mistake_and_not_called_stopping(
    client: StandIn, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancelled(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(client, "rerank", cancelled)
    client.rename("overlap", "late-interaction")
    app = create_app(GatewaySettings(), client)
    async with app.router.lifespan_context(app):
        assert await Caller("a ranking").ask(app) == 500

    (record,) = caplog.records
    assert json.loads(record.message)["code"] == "internal_error"
    assert record.exc_info is not None


async def test_a_triton_that_does_not_answer_is_waited_for_no_longer_than_was_said(triton: FakeServer) -> None:
    with anyio.fail_after(30):
        async with AsyncClient(triton.url) as client:
            triton.gate.clear()

            async def asks() -> bool:
                return bool(await client.embed(["a"], model="embedding", timeout_s=20) is not None)

            assert not await Arrival(asks).within(0.1)
            triton.gate.set()


async def test_who_hangs_up_with_another_request_on_the_connection_has_the_first_one_not_computed_either(
    client: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Swapping(asyncio.CancelledError())
    monkeypatch.setattr(client, "rerank", work)
    client.rename("overlap", "late-interaction")
    path, body = REQUESTS["a ranking"]
    async with Gateway(GatewaySettings(port=0), client=client) as gateway, httpx.AsyncClient() as http:
        _, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        writer.write(2 * request(path, json.dumps(body).encode()))
        await work.entered.wait()
        writer.close()

        async def given_up() -> bool:
            return 'status="499"' in (await http.get(f"{gateway.url}/metrics")).text

        await eventually(given_up)
