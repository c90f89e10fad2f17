"""`conch serve` as a process: it says where it serves once it has answered, and ends in order."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
from typing import TYPE_CHECKING

import httpx
import pytest
from conch_client import Client

from tests.serving import Serving, alive

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize("setting", ["--port", "--triton-grpc-port", "--triton-metrics-port"])
def test_a_taken_port_is_one_line_and_status_1(small_repository: Path, tmp_path: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        serving = Serving(small_repository, tmp_path, f"{setting}={port}").launch()
        assert serving.wait() == 1
    assert serving.printed == ""
    assert re.fullmatch(rf"error: port {port} on 127\.0\.0\.1 is already in use; set CONCH_\w*PORT.*\n", serving.said)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        pytest.param({"CONCH_MAX_INPUTS": "eighty"}, r"CONCH_MAX_INPUTS: .*", id="no number"),
        pytest.param(
            {"CONCH_TRITON_HOST": "192.0.2.1"}, r".*not an IPv4 loopback address.*docker compose.*", id="not loopback"
        ),
        pytest.param({"CONCH_API_KEYS_FILE": "/nowhere"}, r".*/nowhere.*", id="no file of keys"),
        pytest.param({"CONCH_MODELS_FILE": "/nowhere"}, r".*/nowhere.*", id="no file of models"),
        pytest.param({"CONCH_TLS_CERTIFICATE": "/nowhere"}, r"cannot use the certificate.*", id="no certificate"),
        pytest.param({"CONCH_BATCH_DATABASE": "/proc/batches.db"}, r"CONCH_BATCH_DATABASE: .*", id="no database"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_and_status_1_before_any_model_is_loaded(
    small_repository: Path, tmp_path: Path, setting: dict[str, str], told: str
) -> None:
    serving = Serving(small_repository, tmp_path, **setting).launch()
    assert serving.wait() == 1
    assert re.fullmatch(rf"error: {told}\n", serving.said), serving.said
    assert not serving.triton_log.exists()


@pytest.mark.parametrize("flag", ["--run-directory={file}", "--run-directory={file}/run"])
def test_a_run_directory_that_cannot_be_written_is_one_line_and_status_1(
    small_repository: Path, tmp_path: Path, flag: str
) -> None:
    (tmp_path / "file").touch()
    serving = Serving(small_repository, tmp_path, flag.format(file=tmp_path / "file")).launch()
    assert serving.wait() == 1
    assert re.fullmatch(r"error: cannot write .*; set CONCH_RUN_DIRECTORY to a folder you can\n", serving.said), (
        serving.said
    )


@pytest.mark.parametrize("cores", [1, 3])
def test_models_follow_the_cores_and_the_repository_stays_as_it_was_exported(
    small_repository: Path, tmp_path: Path, cores: int
) -> None:
    repository = shutil.copytree(small_repository, tmp_path / "models", copy_function=os.link)
    exported = {path: path.read_bytes() for path in repository.rglob("config.pbtxt")}
    with Serving(repository, tmp_path, CONCH_TRITON_CORES=str(cores)) as serving, Client(serving.grpc_url) as client:
        (model,) = (model for model in client.models() if model.name == "small")
        assert model.instances == cores
        assert client.embed(["A cat sat on the mat."]).shape == (1, 48)
    assert {path: path.read_bytes() for path in repository.rglob("config.pbtxt")} == exported
