"""`conch serve` as a process: it says where it serves once it has answered, and ends in order."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from typing import TYPE_CHECKING

import httpx
import pytest
from conch.app import app
from conch_client import Client
from conch_export import plan
from typer.testing import CliRunner, Result

from tests.exports import export_once, options_of
from tests.serving import Serving, alive, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.checkpoints import Checkpoints

BODY = {"input": [f"cat {number} sat on the mat " * 40 for number in range(16)]}


async def until_in_flight(client: httpx.AsyncClient, count: int) -> None:
    """Return once the gateway computes `count` requests; the test's own time limit ends a wait in vain."""
    in_flight = 0.0
    while in_flight < count:
        metrics = (await client.get("/metrics")).text
        found = re.search(r"^conch_gateway_in_flight_requests (\S+)", metrics, re.MULTILINE)
        in_flight = float(found.group(1)) if found else 0.0


async def test_it_answers_where_it_says_and_finishes_requests_when_it_is_stopped(
    default_repository: Path, tmp_path: Path
) -> None:
    serving = await asyncio.to_thread(Serving(default_repository, tmp_path, "--port=0").start)
    url = re.search(r"REST\W+(http://127\.0\.0\.1:\d+)", serving.printed)
    assert url is not None
    assert serving.grpc_url in serving.printed
    family = serving.family

    async with httpx.AsyncClient(base_url=url.group(1), timeout=60) as client:
        requests = [asyncio.ensure_future(client.post("/v1/embeddings", json=BODY)) for _ in range(3)]
        await until_in_flight(client, len(requests))
        serving.signal(signal.SIGTERM)
        assert [answer.status_code for answer in await asyncio.gather(*requests)] == [200] * len(requests)
    assert await asyncio.to_thread(serving.wait) == 0
    assert not any(map(alive, family))


def test_it_can_use_a_triton_that_runs_already(triton: Serving, tmp_path: Path) -> None:
    with Serving(None, tmp_path, CONCH_TRITON_URL=triton.grpc_url) as serving:
        assert triton.grpc_url in serving.printed
        assert serving.stop(signal.SIGINT) == 0
    assert alive(triton.triton)


@pytest.fixture
def start(small_repository: Path, tmp_path: Path) -> Callable[..., Result]:
    """`conch serve` in this process, which is to be refused before it starts another."""

    def started(*flags: str, **settings: str) -> Result:
        names = ("port", "triton-grpc-port", "triton-metrics-port")
        ports = [f"--{name}={port}" for name, port in zip(names, free_ports(3), strict=True)]
        folders = [f"--repository={small_repository}", f"--run-directory={tmp_path / 'run'}"]
        return CliRunner(env=settings).invoke(app, ["serve", *ports, *folders, *flags])

    return started


@pytest.mark.parametrize("setting", ["--port", "--triton-grpc-port", "--triton-metrics-port"])
def test_a_taken_port_is_one_line_and_status_1(start: Callable[..., Result], setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ended = start(f"{setting}={port}")
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert re.fullmatch(rf"error: port {port} on 127\.0\.0\.1 is already in use; set CONCH_\w*PORT.*\n", ended.stderr)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        pytest.param({"CONCH_MAX_INPUTS": "eighty"}, r"CONCH_MAX_INPUTS: .*", id="no number"),
        pytest.param(
            {"CONCH_TRITON_HOST": "192.0.2.1"}, r".*not a loopback address.*docker compose.*", id="not loopback"
        ),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_and_status_1(
    start: Callable[..., Result], setting: dict[str, str], told: str
) -> None:
    ended = start(**setting)
    assert ended.exit_code == 1
    assert re.fullmatch(rf"error: {told}\n", ended.stderr), ended.stderr


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        pytest.param({"CONCH_API_KEYS_FILE": "/nowhere"}, r".*/nowhere.*", id="no file of keys"),
        pytest.param({"CONCH_MODELS_FILE": "/nowhere"}, r".*/nowhere.*", id="no file of models"),
        pytest.param({"CONCH_TLS_CERTIFICATE": "/nowhere"}, r"cannot use the certificate.*", id="no certificate"),
    ],
)
def test_a_file_that_the_gateway_lacks_is_one_line_and_status_1_and_triton_ends(
    small_repository: Path, tmp_path: Path, setting: dict[str, str], told: str
) -> None:
    serving = Serving(small_repository, tmp_path, **setting).launch()
    assert serving.wait() == 1
    assert re.fullmatch(rf"error: {told}\n", serving.said), serving.said
    assert not serving.leftovers()


@pytest.mark.parametrize("flag", ["--run-directory={file}", "--run-directory={file}/run"])
def test_a_run_directory_that_cannot_be_written_is_one_line_and_status_1(
    start: Callable[..., Result], tmp_path: Path, flag: str
) -> None:
    (tmp_path / "file").touch()
    ended = start(flag.format(file=tmp_path / "file"))
    assert ended.exit_code == 1
    assert re.fullmatch(r"error: cannot write .*; set CONCH_RUN_DIRECTORY to a folder you can\n", ended.stderr)


@pytest.mark.parametrize("cores", [1, 3])
def test_models_follow_the_cores_and_the_repository_stays_as_it_was_exported(
    checkpoints: Checkpoints, tmp_path: Path, cores: int
) -> None:
    repository = tmp_path / "models"
    export_once(options_of(checkpoints, "bert", repository, name="small", plan=plan(), late_interaction=False))
    exported = {path: path.read_bytes() for path in repository.rglob("config.pbtxt")}
    with Serving(repository, tmp_path, CONCH_TRITON_CORES=str(cores)) as serving, Client(serving.grpc_url) as client:
        (model,) = (model for model in client.models() if model.name == "small")
        assert model.instances == cores
        assert client.embed(["A cat sat on the mat."]).shape == (1, 48)
    assert {path: path.read_bytes() for path in repository.rglob("config.pbtxt")} == exported
