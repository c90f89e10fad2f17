"""How the embedded Triton starts, dies, comes back and ends: whatever happens, nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc.aio as triton_grpc
from conch_server import PortTakenError, RepositoryError, StartError, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_server import ServerSettings
    from numpy.typing import NDArray

MODEL = "all-minilm-l6-v2"


async def embed(url: str, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    async with triton_grpc.InferenceServerClient(
        url, channel_args=[("grpc.use_local_subchannel_pool", 1)]
    ) as connection:
        return await infer(connection, ids)


async def infer(connection: triton_grpc.InferenceServerClient, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    inputs = []
    for name, values in (("input_ids", ids), ("attention_mask", np.ones_like(ids))):
        inputs.append(triton_grpc.InferInput(name, values.shape, "INT64"))
        inputs[-1].set_data_from_numpy(values)
    answer: NDArray[np.float32] = (await connection.infer(MODEL, inputs)).as_numpy("embedding")
    return answer


async def eventually(condition: Callable[[], Any], timeout_s: float = 30) -> None:
    """Return when the condition holds; fail when it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.01)


def leftovers(settings: ServerSettings) -> list[str]:
    """Processes and folders of runs in this run directory, and the shared memory of their stubs."""
    folder = str(settings.run_directory)
    processes = [
        process.info["name"]
        for process in psutil.process_iter(["name", "cmdline"])
        if any(folder in argument for argument in process.info["cmdline"] or ())
    ]
    return [*processes, *(run.name for run in settings.run_directory.glob("conch-*"))]


def lives(process: psutil.Process) -> bool:
    """Whether it runs; what only waits to be reaped by init does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def regions() -> set[str]:
    """Names of all shared memory regions of supervised Tritons on this machine."""
    return {region.name for region in SHARED_MEMORY.glob("conch-*")}


SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
IDS = np.array([[101, 7592, 2088, 102]])


async def test_it_comes_back_within_five_seconds_when_killed_and_leaves_nothing_when_stopped(
    server_settings: Callable[..., ServerSettings], default_repository: Path
) -> None:
    settings = server_settings(model_repository=default_repository)
    async with Supervisor(settings) as supervisor:
        expected = await embed(supervisor.grpc_url, IDS)
        first, began = supervisor.pid, time.monotonic()
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: supervisor.restarts == 1, timeout_s=5)

        np.testing.assert_allclose(await embed(supervisor.grpc_url, IDS), expected, atol=1e-6)
        assert time.monotonic() - began < 5
        assert supervisor.pid != first
        assert await supervisor.ready()
    assert not psutil.pid_exists(first)
    assert not leftovers(settings)


async def test_a_triton_that_hangs_is_replaced(server_settings: Callable[..., ServerSettings]) -> None:
    settings = server_settings(probe_interval_s=0.2, probe_timeout_s=0.5, probe_failures=2)
    async with Supervisor(settings) as supervisor:
        hung = supervisor.pid
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)
        await eventually(lambda: supervisor.restarts == 1)
        assert (await embed(supervisor.grpc_url, IDS)).shape == (1, 384)
        assert not psutil.pid_exists(hung)


async def test_requests_in_flight_are_finished_when_it_is_stopped(
    server_settings: Callable[..., ServerSettings],
) -> None:
    long_texts = np.random.default_rng(3).integers(1000, 20000, (8, 256))
    supervisor = await Supervisor(server_settings()).__aenter__()
    async with triton_grpc.InferenceServerClient(supervisor.grpc_url) as connection:
        requests = [asyncio.ensure_future(infer(connection, long_texts)) for _ in range(12)]
        await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
        assert not all(request.done() for request in requests)
        await supervisor.__aexit__(None, None, None)
        answers = await asyncio.gather(*requests)
    assert all(answer.shape == (8, 384) for answer in answers)


async def test_nothing_survives_a_supervisor_that_is_killed(
    server_settings: Callable[..., ServerSettings], tmp_path: Path
) -> None:
    settings = server_settings()
    script = tmp_path / "supervise.py"
    script.write_text(
        "import asyncio, sys\n"
        "from conch_server import ServerSettings, Supervisor\n"
        "async def main():\n"
        "    async with Supervisor(ServerSettings.model_validate_json(sys.argv[1])) as supervisor:\n"
        "        print(supervisor.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, str(script), settings.model_dump_json(), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    triton = psutil.Process(int(await parent.stdout.readline()))
    family = [triton, *triton.parents()[:1], *triton.children(recursive=True)]
    parent.kill()
    await parent.wait()
    await eventually(lambda: not any(lives(process) for process in family))
    assert not {name for name in regions() if name.startswith(f"conch-{parent.pid}-")}
    assert not leftovers(settings)


async def test_a_warden_that_is_killed_takes_triton_with_it_and_both_come_back(
    server_settings: Callable[..., ServerSettings], default_repository: Path
) -> None:
    async with Supervisor(server_settings(model_repository=default_repository)) as supervisor:
        assert supervisor.pid is not None
        triton = psutil.Process(supervisor.pid)
        stubs = triton.children(recursive=True)
        triton.parent().kill()  # type: ignore[union-attr]
        await eventually(lambda: supervisor.restarts == 1, timeout_s=5)
        assert (await embed(supervisor.grpc_url, IDS)).shape == (1, 384)
        await eventually(lambda: not any(lives(process) for process in (triton, *stubs)))


async def test_a_taken_port_is_named_with_the_setting_that_changes_it(
    server_settings: Callable[..., ServerSettings],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port} .* CONCH_TRITON_GRPC_PORT"):
            await Supervisor(server_settings(triton_grpc_port=port)).__aenter__()


async def test_missing_weights_are_named_before_anything_starts(
    server_settings: Callable[..., ServerSettings], repository: Path, tmp_path: Path
) -> None:
    shutil.copytree(repository, tmp_path / "models", ignore=shutil.ignore_patterns("*.onnx"))
    settings = server_settings(model_repository=tmp_path / "models")
    with pytest.raises(RepositoryError, match=f"no weights .*{MODEL}.encoder.*conch export"):
        await Supervisor(settings).__aenter__()
    assert not list(settings.run_directory.iterdir())


async def test_a_graph_that_is_not_what_its_configuration_says_ends_the_start_with_the_reason(
    server_settings: Callable[..., ServerSettings], repository: Path, tmp_path: Path
) -> None:
    shutil.copytree(repository, tmp_path / "models")
    config = tmp_path / "models" / f"{MODEL}.pooling" / "config.pbtxt"
    config.write_text(config.read_text().replace('"row_lengths"', '"lengths"'))
    settings = server_settings(model_repository=tmp_path / "models")
    with pytest.raises(StartError, match=rf"model '{MODEL}.pooling': the graph takes \['row_lengths'\]"):
        await Supervisor(settings).__aenter__()
    assert not list(settings.run_directory.glob("conch-*"))


async def test_a_port_of_another_machine_is_no_place_for_it(server_settings: Callable[..., ServerSettings]) -> None:
    with pytest.raises(ValueError, match="not a loopback address"):
        server_settings(triton_host="192.0.2.1")


async def test_it_comes_back_within_five_seconds_when_a_model_instance_dies(
    server_settings: Callable[..., ServerSettings], default_repository: Path
) -> None:
    async with Supervisor(server_settings(model_repository=default_repository)) as supervisor:
        assert supervisor.pid is not None
        stubs = psutil.Process(supervisor.pid).children()
        next(stub for stub in stubs if any(".encoder" in argument for argument in stub.cmdline())).kill()
        await eventually(lambda: supervisor.restarts == 1, timeout_s=5)
        assert (await embed(supervisor.grpc_url, IDS)).shape == (1, 384)
