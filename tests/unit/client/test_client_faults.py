"""When things go wrong: retries, deadlines, restarts, full queues and clients that were closed."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from conch_client import (
    ConchError,
    DeadlineExceededError,
    InvalidInputError,
    OverloadedError,
    ServerError,
    UnavailableError,
)

from tests.serving import NOWHERE
from tests.waiting import PATIENCE_S, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_client.testing import FakeServer

AWAY = (grpc.StatusCode.UNAVAILABLE, "Socket closed")
FULL = (grpc.StatusCode.UNAVAILABLE, "in ensemble 'letters', Exceeds maximum queue size")


def inferences(server: FakeServer) -> int:
    return sum(request.model_name == "letters" for request in server.received)


async def test_a_request_is_repeated_while_the_server_is_away(client: Any, server: FakeServer) -> None:
    await client.models()
    await client.tokenize(["x"])
    server.failures.extend([AWAY, AWAY])
    assert (await client.embed(["x"])).shape == (1, 8)
    assert inferences(server) == 3


async def test_a_server_on_this_machine_is_not_reached_through_a_proxy(
    connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", NOWHERE)
    assert (await connect(retries=0).embed(["x"])).shape == (1, 8)


async def test_retries_come_to_an_end(connect: Callable[..., Any], server: FakeServer) -> None:
    client = connect(retries=1)
    await client.tokenize(["x"])
    server.failures.extend([AWAY] * 9)
    with pytest.raises(UnavailableError, match="Socket closed"):
        await client.embed(["x"])
    assert inferences(server) == 2


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (FULL, OverloadedError),
        ((grpc.StatusCode.INTERNAL, "the graph failed"), ServerError),
        ((grpc.StatusCode.INVALID_ARGUMENT, "no"), InvalidInputError),
    ],
    ids=["queue-full", "internal", "refused"],
)
async def test_what_repeating_would_not_help_is_not_repeated(
    client: Any, server: FakeServer, failure: tuple[grpc.StatusCode, str], kind: type[ConchError]
) -> None:
    await client.tokenize(["x"])
    server.failures.append(failure)
    with pytest.raises(kind):
        await client.embed(["x"])
    assert inferences(server) == 1


async def test_a_call_ends_with_its_deadline(client: Any, server: FakeServer) -> None:
    await client.tokenize(["x"])
    server.gate.clear()
    with pytest.raises(DeadlineExceededError, match="timeout_s"):
        await client.embed(["x"] * 40, timeout_s=0.2)


async def test_a_call_may_have_any_time(client: Any) -> None:
    assert (await client.embed(["x"], timeout_s=1e10)).shape == (1, 8)
    await client.wait_until_ready(timeout_s=1e300)


async def test_the_deadline_holds_while_another_call_fetches_the_tokenizer(client: Any, server: FakeServer) -> None:
    server.gate.clear()
    first = asyncio.ensure_future(client.embed(["x"]))
    await eventually(lambda: server.received)
    with pytest.raises(DeadlineExceededError, match=r"timeout_s=0\.2"):
        await client.embed(["x"], timeout_s=0.2)
    server.gate.set()
    assert (await first).shape == (1, 8)


async def test_the_first_failure_ends_a_call_of_many_requests(connect: Callable[..., Any], server: FakeServer) -> None:
    client = connect(max_in_flight=2)
    await client.tokenize(["x"])
    server.failures.append((grpc.StatusCode.INTERNAL, "the graph failed"))
    with pytest.raises(ServerError, match="the graph failed"):
        await client.embed(["x"] * 400)
    assert inferences(server) < 100


async def test_a_restarted_server_is_found_again(client: Any, server: FakeServer) -> None:
    expected = await client.embed(["x"])
    server.stop()
    waiting = asyncio.ensure_future(client.embed(["x"]))
    await asyncio.sleep(0.15)  # the server's absence, not a synchronisation
    server.start()
    assert (await waiting == expected).all()


async def test_an_absence_longer_than_all_retries_is_not_remembered(client: Any, server: FakeServer) -> None:
    await client.embed(["x"])
    server.stop()
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await client.embed(["x"])
    assert not await client.is_ready()
    server.start()
    await client.wait_until_ready(timeout_s=PATIENCE_S)
    assert (await client.embed(["x"])).shape == (1, 8)


async def test_waiting_for_a_server_that_never_comes_ends(server: FakeServer, connect: Callable[..., Any]) -> None:
    client = connect()
    server.models.clear()
    with pytest.raises(DeadlineExceededError, match="no model became ready"):
        await client.wait_until_ready(timeout_s=0.3)


async def test_waiting_for_a_server_that_hangs_ends_with_the_same_words(server: FakeServer, client: Any) -> None:
    server.pulse.clear()
    with pytest.raises(DeadlineExceededError, match="no model became ready"):
        await client.wait_until_ready(timeout_s=0.3)


async def test_a_closed_client_says_so(client: Any) -> None:
    await client.embed(["x"])
    await client.close()
    for call in (client.embed(["x"]), client.rerank("q", ["d"]), client.is_ready(), client.wait_until_ready()):
        with pytest.raises(ConchError, match="the client is closed; create a new one"):
            await call
    await client.close()


async def test_closing_ends_the_calls_under_way(client: Any, server: FakeServer) -> None:
    await client.tokenize(["x"])
    server.gate.clear()
    running = asyncio.ensure_future(client.embed(["x"]))
    await eventually(lambda: inferences(server))
    await client.close()
    with pytest.raises(ConchError, match="closed"):
        await running


async def test_the_first_call_fails_in_time_where_nobody_answers(connect: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kind = type(connect().client)
        client = kind(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)
        call = client.embed(["x"]) if kind.__name__ == "AsyncClient" else asyncio.to_thread(client.embed, ["x"])
        with pytest.raises((DeadlineExceededError, UnavailableError)):
            await call
        closing = client.close()
        if closing is not None:
            await closing


async def test_without_tls_nothing_is_encrypted(connect: Callable[..., Any]) -> None:
    for tls in (False, None):
        assert (await connect(tls=tls, retries=0).embed(["x"], timeout_s=PATIENCE_S)).shape == (1, 8)


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:8000", "grpc://host:8001", "triton"])
async def test_an_address_is_host_and_port(connect: Callable[..., Any], url: str) -> None:
    with pytest.raises(InvalidInputError, match="url must be host:port"):
        type(connect().client)(url)


@pytest.mark.parametrize(
    "options",
    [{"timeout_s": 0}, {"max_in_flight": 0}, {"max_in_flight": None}, {"retries": -1}, {"retries": None}],
    ids=str,
)
async def test_limits_are_checked(connect: Callable[..., Any], options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        connect(**options)
