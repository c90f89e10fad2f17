"""The watch over Triton: failures in it are logged, and it goes on. Triton itself is a stand-in here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest
from conch_server import ServerSettings, ServingError, StartError, Supervisor, _processes, _supervisor

from tests.waiting import PATIENCE_S, eventually

if TYPE_CHECKING:
    from pathlib import Path

CORES = 3


class Run:
    """A tritonserver that ends when the test sets `ended`."""

    name, pid = "conch-test", 0

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def wait(self) -> int:
        await self.ended.wait()
        return 137

    async def kill(self) -> int:
        self.ended.set()
        return await self.wait()

    stop = kill


class Triton:
    """Stands in for `TritonRun.start`: fails as often as `failures` says, then makes a run; and for its repository."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.failures: list[BaseException] = []
        self.models = ["small"]

    async def start(self, *_: object) -> Run:
        if self.failures:
            raise self.failures.pop(0)
        self.runs.append(Run())
        return self.runs[-1]


class Answers:
    """A probe whose checks all succeed."""

    def __init__(self, _settings: object, _name: str, models: list[str]) -> None:
        self.models = models

    async def alive(self) -> bool:
        return True

    async def unready(self) -> list[str]:
        return []

    async def close(self) -> None:
        pass


async def idle(*_: object) -> bool:
    """Stands in for `until_idle`, which looks at processes: these have none."""
    return True


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Triton:
    stand_in = Triton()
    monkeypatch.setattr(_supervisor, "TritonRun", stand_in)
    monkeypatch.setattr(_supervisor, "Probe", Answers)
    monkeypatch.setattr(_supervisor, "until_idle", idle)
    monkeypatch.setattr(_supervisor, "check_repository", lambda _: stand_in.models)
    monkeypatch.setattr(Supervisor, "_preflight", lambda self: setattr(self, "_wheel", None))
    return stand_in


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    return ServerSettings(run_directory=tmp_path, restart_backoff_s=0.01, restart_backoff_max_s=0.02)


async def test_a_restart_that_fails_is_tried_again_whatever_the_failure(
    triton: Triton, settings: ServerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async with Supervisor(settings, CORES) as supervisor:
        triton.failures = [StartError("no memory"), RuntimeError("the handler is closed"), OSError(24, "no descriptor")]
        triton.runs[0].ended.set()
        await eventually(lambda: supervisor.restarts == 1)
        assert len(triton.runs) == 2
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "SIGKILL" in errors[0]
    assert errors[1] == "Triton could not be started again, the next attempt follows: no memory"
    assert errors[2:] == ["watching over Triton failed; it goes on"] * 2


async def test_a_restart_waits_for_the_models_that_the_repository_has_by_then(
    triton: Triton, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unready(probe: Answers) -> list[str]:
        return [model for model in probe.models if model not in triton.models]

    monkeypatch.setattr(Answers, "unready", unready)
    triton.models = ["damaged", "small"]
    async with Supervisor(settings, CORES) as supervisor:
        triton.models = ["small"]  # the other one was moved out of the repository
        triton.runs[0].ended.set()
        await eventually(lambda: supervisor.restarts == 1)
        assert supervisor.models == ["small"]


async def test_a_model_that_an_administrator_could_not_load_is_not_what_triton_ended_of(
    triton: Triton, settings: ServerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async with Supervisor(settings, CORES) as supervisor:
        line = "2026-01-01T00:00:00Z E 7 model_lifecycle.cc:642] \"failed to load 'm' version 1: Internal: no\"\n"
        supervisor.log.path.write_text(line)
        triton.runs[0].ended.set()
        await eventually(lambda: supervisor.restarts == 1)
    assert "Triton was ended by SIGKILL" in caplog.text
    assert "cannot load" not in caplog.text


@pytest.mark.parametrize(("stated", "cores"), [(None, CORES), (5, 5)], ids=["given", "stated by the settings"])
async def test_models_are_fitted_to_the_cores(
    triton: Triton, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, stated: int | None, cores: int
) -> None:
    fitted: list[int] = []
    monkeypatch.setattr(_supervisor, "fit_to_cores", lambda _, cores: fitted.append(cores))
    async with Supervisor(settings.model_copy(update={"triton_cores": stated}), CORES):
        assert fitted == [cores]


async def test_a_look_that_fails_costs_no_restart(
    triton: Triton, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks: list[int] = []

    def stubs_of(triton: int) -> frozenset[int]:
        looks.append(triton)
        if len(looks) == 1:
            raise OSError(24, "no descriptor")
        return frozenset()

    monkeypatch.setattr(_processes, "stubs_of", stubs_of)
    async with Supervisor(settings.model_copy(update={"probe_interval_s": 0.01}), CORES) as supervisor:
        await eventually(lambda: "it goes on" in caplog.text)
        await eventually(lambda: len(looks) > 3)
        assert (supervisor.restarts, len(triton.runs)) == (0, 1)
        triton.runs[0].ended.set()
        await eventually(lambda: supervisor.restarts == 1)


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which take no time."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def recorded(seconds: float) -> None:
        if seconds >= 1:
            slept.append(seconds)
        await sleep(0 if seconds >= 1 else seconds)

    monkeypatch.setattr(asyncio, "sleep", recorded)
    return slept


async def test_the_first_restart_is_immediate_and_the_next_wait_longer_and_longer(
    triton: Triton, tmp_path: Path, sleeps: list[float]
) -> None:
    settings = ServerSettings(run_directory=tmp_path, restart_backoff_s=1, restart_backoff_max_s=5)
    async with Supervisor(settings, CORES) as supervisor:
        triton.failures = [StartError("no memory")] * 5
        triton.runs[0].ended.set()
        await eventually(lambda: supervisor.restarts == 1)
        assert sleeps == [1, 2, 4, 5, 5]
        triton.runs[1].ended.set()
        await eventually(lambda: supervisor.restarts == 2)
        assert sleeps == [1, 2, 4, 5, 5, 5]


async def test_a_long_run_forgets_earlier_restarts(triton: Triton, tmp_path: Path, sleeps: list[float]) -> None:
    settings = ServerSettings(run_directory=tmp_path, restart_backoff_s=1, restart_forget_s=1e-9)
    async with Supervisor(settings, CORES):
        for restarts in (1, 2, 3):
            triton.runs[-1].ended.set()
            await eventually(lambda: len(triton.runs) == restarts + 1)  # noqa: B023
    assert sleeps == []


async def test_without_models_to_wait_for_it_says_that_triton_has_not_answered(
    triton: Triton, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(_: object) -> bool:
        return False

    monkeypatch.setattr(Answers, "alive", silent)
    with pytest.raises(StartError, match=r"not ready after 0\.05 s: it has not answered; raise CONCH_START_TIMEOUT_S"):
        await Supervisor(settings.model_copy(update={"start_timeout_s": 0.05}), CORES).__aenter__()
    assert triton.runs[0].ended.is_set()


async def test_an_error_is_raised_to_waiters_when_the_watch_ends(
    triton: Triton, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*_: object) -> None:
        raise MemoryError("none left")

    monkeypatch.setattr(Supervisor, "_watch", breaks)
    async with Supervisor(settings, CORES) as supervisor:
        with anyio.fail_after(PATIENCE_S), pytest.raises(ServingError, match="no longer watched: MemoryError"):
            await supervisor.wait()


async def test_waiters_return_when_it_is_stopped(triton: Triton, settings: ServerSettings) -> None:
    async with Supervisor(settings, CORES) as supervisor:
        waiting = asyncio.create_task(supervisor.wait())
    with anyio.fail_after(PATIENCE_S):
        await waiting
    assert triton.runs[0].ended.is_set()
