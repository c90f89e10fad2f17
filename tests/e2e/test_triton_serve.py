"""`conch serve` as a process: it says where it serves once it has answered, and ends in order."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_server import ServerSettings, Supervisor

BODY = {"input": [f"cat {number} sat on the mat " * 40 for number in range(16)]}


async def started(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "conch", "serve", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "200", **environment},
    )  # fmt: skip


async def until_announced(process: asyncio.subprocess.Process) -> str:
    """What it has printed up to and with its list of models."""
    assert process.stdout is not None
    return (await process.stdout.readuntil(b"(late-interaction)")).decode()


def flags(settings: ServerSettings) -> list[str]:
    return [
        f"--repository={settings.model_repository}",
        f"--run-directory={settings.run_directory}",
        f"--triton-grpc-port={settings.triton_grpc_port}",
        f"--triton-metrics-port={settings.triton_metrics_port}",
    ]


async def until_in_flight(client: httpx.AsyncClient, count: int) -> None:
    """Return once the gateway computes `count` requests; the test's own time limit ends a wait in vain."""
    in_flight = 0.0
    while in_flight < count:
        metrics = (await client.get("/metrics")).text
        found = re.search(r"^conch_gateway_in_flight_requests (\S+)", metrics, re.MULTILINE)
        in_flight = float(found.group(1)) if found else 0.0


async def test_it_answers_where_it_says_and_finishes_requests_when_it_is_stopped(
    server_settings: Callable[..., ServerSettings],
) -> None:
    settings = server_settings()
    process = await started("--port=0", *flags(settings))
    printed = await until_announced(process)
    url = re.search(r"REST\W+(http://127\.0\.0\.1:\d+)", printed)
    assert url is not None
    assert f"127.0.0.1:{settings.triton_grpc_port}" in printed
    family = psutil.Process(process.pid).children(recursive=True)

    async with httpx.AsyncClient(base_url=url.group(1), timeout=60) as client:
        requests = [asyncio.ensure_future(client.post("/v1/embeddings", json=BODY)) for _ in range(3)]
        await until_in_flight(client, len(requests))
        process.send_signal(signal.SIGTERM)
        assert [answer.status_code for answer in await asyncio.gather(*requests)] == [200] * len(requests)
    await process.communicate()
    assert process.returncode == 0
    assert not any(relative.is_running() for relative in family)


async def test_it_can_use_a_triton_that_runs_already(triton: Supervisor) -> None:
    process = await started("--port=0", CONCH_TRITON_URL=triton.grpc_url)
    assert triton.grpc_url in await until_announced(process)
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 0
    assert await asyncio.to_thread(lambda: psutil.pid_exists(triton.pid or 0))


@pytest.mark.parametrize("setting", ["--port", "--triton-grpc-port"])
async def test_a_taken_port_is_one_line_and_status_1(
    server_settings: Callable[..., ServerSettings], setting: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = await started("--port=0", *flags(server_settings()), f"{setting}={port}")
        printed, said = await process.communicate()
    assert process.returncode == 1
    assert printed == b""
    assert re.fullmatch(rf"error: port {port} on 127\.0\.0\.1 is already in use; set CONCH_\w*PORT.*\n", said.decode())


async def test_a_setting_that_cannot_be_is_one_line_and_status_1() -> None:
    process = await started(CONCH_PORT="eighty")
    _, said = await process.communicate()
    assert process.returncode == 1
    assert re.fullmatch(r"error: CONCH_PORT: .*\n", said.decode())
