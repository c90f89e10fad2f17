"""The warden: however its child or its parent ends, nothing is left."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from conch_server import _warden

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., "subprocess.Popen[bytes]"]

# A server with a helper of its own that would outlive it, and shared memory.
FAMILY = "sleep 100 & echo $! > {helper}; touch {region}; exec sleep 100"


@pytest.fixture
def region() -> Iterator[Path]:
    """A name in shared memory that the warden under test owns."""
    path = _warden.SHARED_MEMORY / f"conch-test-{os.getpid()}-region"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def start(tmp_path: Path, region: Path) -> Iterator[Start]:
    """Starts a warden for a shell script; its folder is `tmp_path / "run"`."""
    wardens = []

    def begin(script: str, *, exit_timeout_s: float = 5) -> subprocess.Popen[bytes]:
        (tmp_path / "run").mkdir()
        prefix = region.name.removesuffix("region")
        command = ["/bin/sh", "-c", script.format(helper=tmp_path / "helper", region=region)]
        warden = subprocess.Popen(
            [
                sys.executable, "-I", "-S", _warden.__file__, prefix, str(tmp_path / "run"), str(exit_timeout_s),
                *command,
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        wardens.append(warden)
        return warden

    yield begin
    for warden in wardens:
        warden.kill()
        warden.wait()
        for pipe in (warden.stdin, warden.stdout):
            assert pipe is not None
            pipe.close()


def announced(warden: subprocess.Popen[bytes]) -> int:
    assert warden.stdout is not None
    return int(warden.stdout.readline())


def ready(path: Path) -> None:
    """Return once the script has written `path`."""
    until(lambda: path.exists() and (path.name != "helper" or path.read_text().strip()))


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda warden, _: warden.stdin.close(), id="its parent is gone"),
        pytest.param(lambda warden, _: (warden.stdin.write(b"k"), warden.stdin.flush()), id="it is told to kill"),
        pytest.param(lambda warden, _: warden.terminate(), id="it gets SIGTERM"),
        pytest.param(lambda _, server: os.kill(server, signal.SIGKILL), id="the server is killed"),
    ],
)
def test_nothing_is_left_when(
    start: Start, tmp_path: Path, region: Path, end: Callable[[subprocess.Popen[bytes], int], object]
) -> None:
    warden = start(FAMILY)
    server = announced(warden)
    ready(tmp_path / "helper")
    ready(region)
    helper = int((tmp_path / "helper").read_text())
    end(warden, server)
    warden.wait(60)
    assert not psutil.pid_exists(server)
    assert not psutil.pid_exists(helper)
    assert not region.exists()
    assert not (tmp_path / "run").exists()


def test_the_status_of_the_server_is_passed_on(start: Start) -> None:
    assert start("exit 3").wait(60) == 3


def test_a_death_by_signal_is_told_as_a_shell_does(start: Start) -> None:
    assert start("kill -9 $$").wait(60) == 128 + signal.SIGKILL


def test_a_server_that_ignores_sigterm_is_killed_in_the_end(start: Start, region: Path) -> None:
    warden = start("trap '' TERM; touch {region}; while true; do sleep 0.1; done", exit_timeout_s=0.1 - _warden.GRACE_S)
    ready(region)
    assert warden.stdin is not None
    warden.stdin.write(b"s")
    warden.stdin.flush()
    assert warden.wait(60) == 128 + signal.SIGKILL


def test_two_orders_to_stop_that_are_read_together_are_no_order_to_kill(start: Start, region: Path) -> None:
    warden = start("trap 'exit 7' TERM; touch {region}; while true; do sleep 0.1; done", exit_timeout_s=100)
    ready(region)
    assert warden.stdin is not None
    warden.stdin.write(b"ss")
    warden.stdin.flush()
    assert warden.wait(60) == 7


def test_a_server_whose_supervisor_has_died_is_not_waited_for(start: Start, region: Path) -> None:
    warden = start("trap '' TERM; touch {region}; while true; do sleep 0.1; done", exit_timeout_s=100)
    ready(region)
    assert warden.stdin is not None
    warden.stdin.close()
    assert warden.wait(60) == 128 + signal.SIGKILL


def test_a_program_that_cannot_be_run_is_said_on_the_log(tmp_path: Path) -> None:
    missing = tmp_path / "tritonserver"
    arguments = [sys.executable, "-I", "-S", _warden.__file__, "conch-none-", str(tmp_path / "run"), "1", str(missing)]
    # At the end of its standard input the warden kills, so that stays open until it has ended.
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as warden:
        assert warden.wait(60) == 127
        assert warden.stderr is not None
        assert f"cannot run {missing}" in warden.stderr.read().decode()


TELL = 'tr "\\0" " " < /proc/$$/cmdline > {folder}/shown; printf %s "$0" > {folder}/given'


@pytest.mark.parametrize("allowed", [True, False], ids=["ptrace is allowed", "ptrace is forbidden"])
def test_the_command_gets_its_secret_which_its_command_line_does_not_show_where_that_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    monkeypatch.setenv(_warden.IN_ENVIRONMENT, "the secret")
    if not allowed:
        monkeypatch.setattr(_warden, "_may_trace", lambda _: False)
    command = ("/bin/sh", "-c", TELL.format(folder=tmp_path), _warden.SECRET_ARGUMENT)
    server = _warden._spawn(command, ctypes.CDLL(None))
    assert os.waitpid(server, 0)[1] == 0
    assert (tmp_path / "given").read_text() == "the secret"
    assert ("the secret" in (tmp_path / "shown").read_text()) != allowed
