"""How `conch serve` starts, loses processes, gets them back and ends: whatever happens, nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
import tritonclient.grpc.aio as triton_grpc
from conch_client import Client
from conch_contract import usable_cores

from tests.serving import OF_THIS_MACHINE, NotServingError, Serving, alive
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psutil
    from numpy.typing import NDArray

MODEL = "small"
SLOW = "all-minilm-l6-v2"  # a request of which is still computed when a signal comes
IMPATIENT = {"CONCH_PROBE_INTERVAL_S": "0.2", "CONCH_PROBE_TIMEOUT_S": "0.5", "CONCH_PROBE_FAILURES": "2"}
VICTIMS: dict[str, Callable[[Serving], psutil.Process]] = {
    "tritonserver": lambda serving: serving.triton,
    "a model instance": lambda serving: next(
        stub for stub in serving.stubs if any(".encoder" in word for word in stub.cmdline())
    ),
    "the warden": lambda serving: serving.warden,
}


@pytest.fixture
def models(small_repository: Path, tmp_path: Path) -> Path:
    """A repository that the test may damage."""
    return shutil.copytree(small_repository, tmp_path / "models")


def vector(serving: Serving) -> NDArray[np.float32]:
    answer = serving.http.post("/v1/embeddings", json={"input": "hello world", "model": MODEL})
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["data"][0]["embedding"], np.float32)


def answers(serving: Serving) -> bool:
    """Whether a text is embedded now."""
    try:
        vector(serving)
    except (AssertionError, httpx.TransportError):
        return False
    return True


def restarts(serving: Serving) -> int:
    return serving.said.count("Triton serves again")


def test_whatever_is_killed_is_back_again_and_again_and_nothing_is_left(small_repository: Path, tmp_path: Path) -> None:
    # How soon it is back is measured by `make soak`: here the machine may be busy with other things.
    with Serving(small_repository, tmp_path, **OF_THIS_MACHINE) as serving:
        with Client(serving.grpc_url) as client:
            assert client.model(MODEL).instances == usable_cores()
        expected = vector(serving)
        for number, victim in enumerate([*VICTIMS, "tritonserver"], 1):
            family = [serving.triton, *serving.stubs, serving.warden]
            VICTIMS[victim](serving).kill()
            until(lambda number=number: restarts(serving) == number and answers(serving))  # type: ignore[misc]
            np.testing.assert_allclose(vector(serving), expected, atol=1e-6)
            until(lambda family=family: not any(map(alive, family)))  # type: ignore[misc]
        family = serving.family
        assert serving.stop(signal.SIGTERM) == 0
        assert not any(map(alive, family))
    assert not serving.leftovers()
    assert "Traceback" not in serving.said


@pytest.fixture(scope="class")
def impatient(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Health checks find a hung Triton within a second."""
    with Serving(small_repository, tmp_path_factory.mktemp("impatient"), **IMPATIENT) as serving:
        yield serving


class TestImpatientHealthChecks:
    @pytest.mark.parametrize("victim", ["tritonserver", "the warden"])
    def test_what_hangs_is_replaced(self, impatient: Serving, victim: str) -> None:
        hung, triton, before = VICTIMS[victim](impatient), impatient.triton, restarts(impatient)
        hung.suspend()
        if victim == "the warden":
            triton.kill()  # which the warden neither sees nor tells
        until(lambda: restarts(impatient) > before and answers(impatient))
        assert not alive(hung)
        assert not alive(triton)

    def test_nothing_is_written_beside_the_backends_code(self, impatient: Serving) -> None:
        """On a full disk that would be truncated bytecode, and Triton would not start until it is gone."""
        assert list(impatient.run_directory.glob("*/backends/**/*.py"))
        assert not list(impatient.run_directory.rglob("*.pyc"))


def test_a_restart_that_fails_is_tried_again_until_the_model_is_mended(models: Path, tmp_path: Path) -> None:
    graph = models / f"{MODEL}.encoder" / "1" / "model.onnx"
    with Serving(models, tmp_path) as serving:
        expected, whole = vector(serving), graph.read_bytes()
        graph.write_bytes(whole[:1000])
        serving.triton.kill()
        until(lambda: serving.said.count("could not be started again") == 2)
        assert serving.http.get("/health/ready").status_code == 503
        graph.write_bytes(whole)
        until(lambda: restarts(serving) == 1 and answers(serving))
        np.testing.assert_allclose(vector(serving), expected, atol=1e-6)
    told = rf"started again.*cannot load {MODEL}.encoder \(.*[Pp]rotobuf.*its log: {serving.triton_log}"
    assert re.search(told, serving.said)
    assert "Traceback" not in serving.said


def test_a_run_directory_that_is_deleted_meanwhile_is_made_again(small_repository: Path, tmp_path: Path) -> None:
    with Serving(small_repository, tmp_path) as serving:
        for number, victim in enumerate(["tritonserver", "the warden"], 1):
            shutil.rmtree(serving.run_directory)
            VICTIMS[victim](serving).kill()
            until(lambda number=number: restarts(serving) == number and answers(serving))  # type: ignore[misc]
        shutil.rmtree(serving.run_directory)
        assert serving.stop() == 0
    assert not serving.leftovers()
    assert "Traceback" not in serving.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_everything_in_order(small_repository: Path, tmp_path: Path, number: signal.Signals) -> None:
    with Serving(small_repository, tmp_path, **OF_THIS_MACHINE) as serving:
        family = serving.family
        assert serving.stop(number) == 0
        assert not any(map(alive, family))
    assert not serving.leftovers()


async def in_flight(serving: Serving) -> list[asyncio.Task[NDArray[np.float32]]]:
    """Long requests straight to Triton, of which the first has just been answered."""
    ids = np.random.default_rng(3).integers(1000, 20000, (8, 256))

    async def infer() -> NDArray[np.float32]:
        async with triton_grpc.InferenceServerClient(serving.grpc_url) as connection:
            inputs = []
            for name, values in (("input_ids", ids), ("attention_mask", np.ones_like(ids))):
                inputs.append(triton_grpc.InferInput(name, values.shape, "INT64"))
                inputs[-1].set_data_from_numpy(values)
            answer: NDArray[np.float32] = (await connection.infer(SLOW, inputs)).as_numpy("embedding")
            return answer

    requests = [asyncio.ensure_future(infer()) for _ in range(12)]
    await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
    assert not all(request.done() for request in requests)
    return requests


async def test_requests_in_flight_are_finished_when_it_is_stopped(default_repository: Path, tmp_path: Path) -> None:
    serving = await asyncio.to_thread(Serving(default_repository, tmp_path).start)
    requests = await in_flight(serving)
    assert await asyncio.to_thread(serving.stop) == 0
    assert all(answer.shape == (8, 384) for answer in await asyncio.gather(*requests))


async def test_a_second_signal_does_not_wait_for_requests_in_flight(default_repository: Path, tmp_path: Path) -> None:
    serving = await asyncio.to_thread(Serving(default_repository, tmp_path).start)
    requests = await in_flight(serving)
    serving.signal(signal.SIGINT)
    await asyncio.to_thread(until, lambda: "Shutting down" in serving.said)
    assert await asyncio.to_thread(serving.stop, signal.SIGINT) == 0
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    assert any(isinstance(outcome, Exception) for outcome in outcomes)
    assert not serving.leftovers()


def test_a_signal_at_any_moment_of_the_start_leaves_nothing(small_repository: Path, tmp_path: Path) -> None:
    moments: list[Callable[[Serving], object]] = [
        lambda serving: serving.warden,
        lambda serving: serving.triton,
        lambda serving: serving.stubs[0],
        lambda serving: serving.http.get("/health/live"),
    ]
    serving = Serving(small_repository, tmp_path)
    for moment, number in itertools.product(moments, [signal.SIGTERM, signal.SIGKILL]):
        serving.launch()
        until(lambda moment=moment: moment(serving))  # type: ignore[misc]
        serving.stop(number)
        until(lambda: not serving.leftovers())
        assert "Traceback" not in serving.said


def test_nothing_survives_a_process_that_is_killed(small_repository: Path, tmp_path: Path) -> None:
    with Serving(small_repository, tmp_path, **OF_THIS_MACHINE) as serving:
        family = serving.family
        serving.kill()
        until(lambda: not any(map(alive, family)) and not serving.leftovers())


def test_what_is_left_where_its_warden_is_killed_too_is_removed_by_the_next_start(
    small_repository: Path, tmp_path: Path
) -> None:
    with Serving(small_repository, tmp_path) as serving:
        family, warden = serving.family, serving.warden
        (left,) = serving.run_directory.glob("conch-*")
        warden.suspend()  # or it would clean up
        serving.kill()
        warden.kill()
        until(lambda: not any(map(alive, family)))
        assert left.exists()
    with serving:
        assert not left.exists()
    assert not serving.leftovers()


def _truncated(folder: Path) -> None:
    graph = folder / "1" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:1000])


def _replaced(old: str, new: str) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        config = folder / "config.pbtxt"
        text = config.read_text()
        config.write_text(text.replace(old, new) if old else text + new)

    return replace


AGAIN = "export it again with `conch export`, or move its folder out of the model repository"
BROKEN = [
    pytest.param(_truncated, rf"Triton cannot load {MODEL}.encoder \(.*[Pp]rotobuf.*\); {AGAIN}", id="a damaged graph"),
    pytest.param(
        _replaced("", "odd {\n"), rf"Triton cannot load {MODEL}.encoder \(.*odd.*\); {AGAIN}", id="no protobuf text"
    ),
    pytest.param(
        _replaced('"row_lengths"', '"lengths"'),
        rf"Triton cannot load {MODEL}.encoder \(the graph takes .*'row_lengths'.*\); {AGAIN}",
        id="a configuration of another graph",
    ),
    pytest.param(
        _replaced('backend: "onnxruntime"', 'backend: "openvino"'),
        rf"Triton cannot load {MODEL}.encoder \(unable to find backend .*\); serve it with docker compose: .*",
        id="another backend",
    ),
    pytest.param(shutil.rmtree, rf"Triton cannot load {MODEL} \(.*{MODEL}.encoder\).*; {AGAIN}", id="a missing step"),
    pytest.param(
        lambda folder: shutil.rmtree(folder / "1"), rf"no weights in .* for {MODEL}.encoder; run `conch export`.*",
        id="no version",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "told"), BROKEN)
def test_a_model_that_cannot_be_loaded_ends_the_start_in_one_line(
    models: Path, tmp_path: Path, damage: Callable[[Path], None], told: str
) -> None:
    damage(models / f"{MODEL}.encoder")
    serving = Serving(models, tmp_path)
    with pytest.raises(NotServingError):
        serving.start()
    assert serving.status == 1
    assert serving.printed == ""
    assert re.fullmatch(rf"error: {told}( \(its log: {serving.triton_log}\))?\n", serving.said), serving.said
    assert not serving.leftovers()


@pytest.mark.parametrize(
    "key", [None, "the-secret-of-triton"], ids=["a key that nobody knows", "a key of the operator"]
)
def test_no_secret_is_in_a_command_line_or_an_environment_that_others_can_read(
    small_repository: Path, tmp_path: Path, key: str | None
) -> None:
    given = {"CONCH_ADMIN_KEY": "the-secret-of-the-admin", "CONCH_API_KEYS": "a:the-secret-of-a"}
    given |= {} if key is None else {"CONCH_TRITON_ADMIN_KEY": key}
    with Serving(small_repository, tmp_path, **given) as serving:
        closed_with = serving.triton.environ()["CONCH_SECRET_ARGUMENT"].rpartition("=")[2]
        assert closed_with == key or (key is None and len(closed_with) == 32)
        secrets = [closed_with.encode(), b"the-secret-of"]
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                shown = (process / "cmdline").read_bytes()
                assert not any(secret in shown for secret in secrets), shown
        for member in serving.family:
            assert Path(f"/proc/{member.pid}/environ").stat().st_mode & 0o077 == 0
        assert not given.keys() & serving.triton.environ().keys()
        assert not any(secret.decode() in serving.said + serving.triton_log.read_text() for secret in secrets)
