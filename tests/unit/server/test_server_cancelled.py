"""A start that is cancelled ends, at whichever moment: a signal that came together with an answer was once lost."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from conch_server import ServerSettings
from conch_server._log import TritonLog
from conch_server._probe import Probe
from conch_server._run import TritonRun, _announced_pid

from tests.cancelling import ROUNDS, cancelled
from tests.serving import free_ports

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_when_the_warden_announces_triton(tmp_path: Path, rounds: int) -> None:
    output = asyncio.StreamReader()
    warden = cast("asyncio.subprocess.Process", SimpleNamespace(stdout=output))
    announced = _announced_pid(warden, TritonLog(tmp_path / "triton.log", kept=1), 10)
    await cancelled(announced, lambda: output.feed_data(b"17\n"), rounds)


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_when_triton_ends(tmp_path: Path, rounds: int) -> None:
    ended = asyncio.Event()
    warden = SimpleNamespace(wait=ended.wait)
    with (tmp_path / "orders").open("wb", buffering=0) as orders:
        run = TritonRun("conch-test", cast("asyncio.subprocess.Process", warden), cast("Any", orders), tmp_path, 10)
        await cancelled(run.kill(), ended.set, rounds)


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_when_triton_accepts_the_first_connection(monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
    connected = asyncio.Event()

    async def open_connection(*_: object) -> tuple[None, Any]:
        await connected.wait()
        return None, SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(asyncio, "open_connection", open_connection)
    probe = Probe(ServerSettings(triton_grpc_port=free_ports(1)[0]), "conch-test", [])
    try:
        await cancelled(probe._connect(), connected.set, rounds)
    finally:
        await probe.close()
