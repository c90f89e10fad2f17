from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import httpx
import psutil
import pytest
from conch_gateway import Gateway, GatewayError, GatewaySettings, ListenError, app, create_app
from pydantic import ValidationError

from tests.serving import Serving, alive
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from conch_client import AsyncClient

    from tests.unit.gateway.conftest import StandIn

GOOD = {"input": "ab"}
ROOT = Path(__file__).parents[3]


def gateway_of(client: StandIn, **settings: int) -> Gateway:
    return Gateway(GatewaySettings.model_validate({"port": 0, **settings}), client=client)


async def test_it_serves_between_start_and_stop_on_a_free_port(client: StandIn) -> None:
    gateway = gateway_of(client)
    await gateway.start()
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{gateway.url}/v1/embeddings", json=GOOD)
        opened = client.opened
        await gateway.stop()
        await gateway.stop()

        assert (answer.status_code, opened, client.opened) == (200, True, False)
        with pytest.raises(httpx.ConnectError):
            await http.get(f"{gateway.url}/health/live")


async def test_it_is_started_once(client: StandIn) -> None:
    gateway = gateway_of(client)
    await gateway.start()
    await gateway.stop()

    with pytest.raises(GatewayError, match="make another"):
        await gateway.start()


async def test_other_servers_start_and_stop_it_by_the_lifespan_of_asgi(client: StandIn) -> None:
    messages = iter(("startup", "shutdown"))
    told: list[tuple[str, bool]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": f"lifespan.{next(messages)}"}

    async def send(message: MutableMapping[str, Any]) -> None:
        told.append((message["type"], client.opened))

    await create_app(GatewaySettings(), cast("AsyncClient", client))({"type": "lifespan"}, receive, send)

    assert told == [("lifespan.startup.complete", True), ("lifespan.shutdown.complete", False)]


async def test_stopping_lets_requests_in_flight_finish(client: StandIn) -> None:
    client.gate = asyncio.Event()
    gateway = gateway_of(client)
    await gateway.start()
    async with httpx.AsyncClient() as http:
        running = asyncio.create_task(http.post(f"{gateway.url}/v1/embeddings", json=GOOD))
        await client.entered.wait()
        stopping = asyncio.create_task(gateway.stop())
        await until_refused(gateway.url)
        client.gate.set()

        assert (await running).status_code == 200
        await stopping


async def test_a_request_that_outlasts_the_grace_period_is_given_up(client: StandIn) -> None:
    client.gate = asyncio.Event()
    gateway = gateway_of(client, shutdown_grace_s=0)
    await gateway.start()
    async with httpx.AsyncClient() as http:
        running = asyncio.create_task(http.post(f"{gateway.url}/v1/embeddings", json=GOOD))
        await client.entered.wait()
        with anyio.fail_after(5):
            await gateway.stop()

        answer = await running
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping")


async def test_a_gateway_that_ceases_to_serve_says_so(client: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(_: object) -> None:
        raise OSError("no descriptor left")

    monkeypatch.setattr("uvicorn.Server.main_loop", fails)
    async with gateway_of(client) as gateway:
        with anyio.fail_after(5), pytest.raises(GatewayError, match=r"no longer serves: .*no descriptor left"):
            await gateway.wait()


async def test_a_gateway_that_is_stopped_has_ended_in_order(client: StandIn) -> None:
    gateway = gateway_of(client)
    await gateway.start()
    waiting = asyncio.create_task(gateway.wait())
    await gateway.stop()
    with anyio.fail_after(5):
        await waiting


async def test_the_factory_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCH_MAX_BODY_BYTES", "10")
    transport = httpx.ASGITransport(app())

    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        assert (await http.post("/v1/embeddings", json=GOOD)).status_code == 413


async def test_a_taken_port_is_one_clear_error(client: StandIn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port}: Address already in use; choose .* CONCH_PORT"):
            await gateway_of(client, port=port).start()


@pytest.mark.parametrize("host", ["192.0.2.1", "no..host"])
async def test_a_foreign_address_is_one_clear_error(client: StandIn, host: str) -> None:
    gateway = Gateway(GatewaySettings(host=host, port=0), client=client)

    with pytest.raises(ListenError, match=rf"cannot listen on {host}.*CONCH_HOST"):
        await gateway.start()


def test_an_address_of_version_6_is_written_in_brackets() -> None:
    assert Gateway(GatewaySettings(host="::1", port=8080)).url == "http://[::1]:8080"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCH_MAX_INPUTS", "7")
    monkeypatch.setenv("CONCH_TRUNCATE", "none")

    settings = GatewaySettings()

    assert (settings.max_inputs, settings.truncate, GatewaySettings(max_inputs=9).max_inputs) == (7, "none", 9)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        GatewaySettings().port = 1  # type: ignore[misc]


def test_limits_that_no_request_could_meet_are_refused() -> None:
    with pytest.raises(ValidationError, match="CONCH_MAX_IN_FLIGHT_TEXTS"):
        GatewaySettings(max_inputs=100, max_in_flight_texts=99)


async def until_refused(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0)


def test_idle_it_takes_no_more_than_150_mb(tmp_path: Path) -> None:
    serving = Serving(None, tmp_path, CONCH_TRITON_URL="127.0.0.1:1").launch()
    until(lambda: serving.http.get("/health/live").is_success)
    resident = psutil.Process(serving.pid).memory_info().rss
    assert serving.stop() == 0
    assert resident < 150e6


def test_what_tests_have_started_ends_with_them_however_they_end(tmp_path: Path) -> None:
    code = """if True:
        import sys, threading
        from pathlib import Path
        from tests.serving import Serving, alive
        serving = Serving(None, Path(sys.argv[1]), CONCH_TRITON_URL='127.0.0.1:1')
        starting = threading.Thread(target=serving.launch)
        starting.start()
        starting.join()
        print(serving.pid, flush=True)
        sys.stdin.read()
    """
    tests = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with tests:
        assert tests.stdout is not None
        try:
            served = psutil.Process(int(tests.stdout.readline()))
            until(lambda: served.cmdline()[:1] == [sys.executable])  # by then the kernel knows with whom it ends
            assert alive(served)
        finally:
            tests.kill()
    try:
        until(lambda: not alive(served))
    finally:
        with suppress(psutil.NoSuchProcess):
            served.kill()
