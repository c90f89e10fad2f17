"""A Triton counts as idle only if none of its processes wants a processor."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from conch_server import _processes
from conch_server._processes import stubs_of, until_idle

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAITS = "import time; time.sleep(60)"
WAKES = "import time\nwhile True: time.sleep(0.2)"
COMPUTES = "while True: pass"
STARVES = f"import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n{COMPUTES}"
LEADER = """
import subprocess, sys
for child in [subprocess.Popen([sys.executable, "-c", sys.argv[1]]) for _ in range(int(sys.argv[2]))]:
    child.wait()
"""


@pytest.fixture
def leader(request: pytest.FixtureRequest) -> Iterator[int]:
    """A process with children that do what the test says, on one core, which eight others want whole."""
    core, (code, count) = min(os.sched_getaffinity(0)), request.param
    others = [subprocess.Popen([sys.executable, "-c", COMPUTES], start_new_session=True) for _ in range(8)]
    process = subprocess.Popen([sys.executable, "-c", LEADER, code, str(count)], start_new_session=True)
    for pid in (process.pid, *(other.pid for other in others)):
        os.sched_setaffinity(pid, {core})
    try:
        until(lambda: len(stubs_of(process.pid)) == count)
        for pid in stubs_of(process.pid):
            os.sched_setaffinity(pid, {core})
        yield process.pid
    finally:
        os.killpg(process.pid, 9)
        for each in (*others, process):
            each.kill()
            each.wait()


@pytest.mark.parametrize("leader", [(COMPUTES, 1), (STARVES, 1)], ids=["computes", "starves"], indirect=True)
async def test_who_computes_or_waits_for_a_processor_is_not_idle(leader: int) -> None:
    assert not await until_idle(leader, 1.5)  # one that waits is found to be idle within 1 s


@pytest.mark.parametrize("leader", [(WAITS, 1), (WAKES, 30)], ids=["waits", "many that wake up"], indirect=True)
async def test_who_waits_for_requests_is_idle_also_on_a_busy_machine(leader: int) -> None:
    assert await until_idle(leader, 30.0)


@pytest.mark.parametrize("leader", [(WAITS, 1)], indirect=True)
def test_looking_for_stubs_reads_no_other_process(leader: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read, stat_of = set[int](), _processes._stat_of

    def noted(folder: Path) -> list[str]:
        read.add(int(folder.name))
        return stat_of(folder)

    monkeypatch.setattr(_processes, "_stat_of", noted)
    found = stubs_of(leader)
    assert read == {leader, *found}
