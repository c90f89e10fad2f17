"""A stub that dies is noticed, and one that Triton ends is not taken for it. Triton is another program here."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from conch_server import _processes
from conch_server._processes import stubs_of, until_one_dies

from tests.waiting import PATIENCE_S, eventually, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEVER_S = 3600.0
FORGETS, REAPS = "SIG_DFL", "SIG_IGN"
TRITON = """
import signal, subprocess, sys, time
stubs = []
signal.signal(signal.SIGUSR1, lambda *_: stubs.append(subprocess.Popen(["sleep", "3600"])))
signal.signal(signal.SIGCHLD, getattr(signal, sys.argv[1]))
stubs += [subprocess.Popen(["sleep", "3600"]) for _ in range(2)]
while True:
    time.sleep(3600)
"""


@pytest.fixture
def triton(request: pytest.FixtureRequest) -> Iterator[int]:
    """A process with two stubs, which it waits for when they have ended or does not."""
    process = subprocess.Popen([sys.executable, "-c", TRITON, request.param], start_new_session=True)
    try:
        until(lambda: len(stubs_of(process.pid)) == 2)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(params=["told by the system", "looked at"])
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How stubs are watched: as on Linux since 5.3, and as where the system tells of no end."""

    def refuse(pid: int) -> int:
        raise OSError(errno.ENOSYS, f"no descriptor of {pid}")

    if request.param == "looked at":
        monkeypatch.setattr(os, "pidfd_open", refuse)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.mark.usefixtures("watch")
@pytest.mark.parametrize("triton", [FORGETS], indirect=True)
async def test_a_stub_that_dies_is_noticed(triton: int) -> None:
    before = descriptors()
    noticed = asyncio.create_task(until_one_dies(triton, NEVER_S))
    await asyncio.sleep(0)
    os.kill(max(stubs_of(triton)), signal.SIGKILL)
    with anyio.fail_after(PATIENCE_S):
        await noticed
    assert descriptors() == before


@pytest.mark.usefixtures("watch")
@pytest.mark.parametrize("triton", [REAPS], indirect=True)
async def test_one_that_triton_waits_for_has_not_died(triton: int) -> None:
    noticed, victim = asyncio.create_task(until_one_dies(triton, 0.01)), max(stubs_of(triton))
    await asyncio.sleep(0)
    os.kill(victim, signal.SIGKILL)
    await eventually(lambda: victim not in stubs_of(triton))
    await asyncio.sleep(0.5)
    assert not noticed.done()
    noticed.cancel()


@pytest.mark.usefixtures("watch")
@pytest.mark.parametrize("triton", [FORGETS], indirect=True)
async def test_those_that_start_later_are_watched_too(triton: int) -> None:
    first = stubs_of(triton)
    noticed = asyncio.create_task(until_one_dies(triton, 0.01))
    os.kill(triton, signal.SIGUSR1)
    await eventually(lambda: len(stubs_of(triton)) == 3)
    (late,) = stubs_of(triton) - first
    os.kill(late, signal.SIGKILL)
    with anyio.fail_after(PATIENCE_S):
        await noticed


@pytest.mark.parametrize("triton", [FORGETS], indirect=True)
async def test_no_process_is_read_while_none_ends(triton: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    stat_of = _processes._stat_of

    def noted(folder: Path) -> list[str]:
        read.append(folder)
        return stat_of(folder)

    monkeypatch.setattr(_processes, "_stat_of", noted)
    watching = asyncio.create_task(until_one_dies(triton, NEVER_S))
    await asyncio.sleep(0)
    looked = len(read)
    await asyncio.sleep(0.5)
    assert len(read) == looked > 0
    watching.cancel()
