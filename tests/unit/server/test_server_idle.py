"""A Triton counts as idle only if none of its processes wants a processor."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from conch_server import _processes
from conch_server._processes import stubs_of, until_idle

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pytest

WAITS = "import time; time.sleep(60)"
WAKES = "import time\nwhile True: time.sleep(0.2)"
COMPUTES = "while True: pass"
STARVES = f"os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n{COMPUTES}"
LEADER = """
import os, sys
for _ in range(int(sys.argv[2])):
    if os.fork() == 0:
        exec(sys.argv[1])
        sys.exit()
os.wait()
"""


@contextmanager
def leader_of(code: str, count: int = 1) -> Iterator[int]:
    """A process with so many children that run the code."""
    process = subprocess.Popen([sys.executable, "-c", LEADER, code, str(count)], start_new_session=True)
    try:
        until(lambda: len(stubs_of(process.pid)) == count)
        yield process.pid
    finally:
        os.killpg(process.pid, 9)
        process.wait()


@contextmanager
def one_core_that_others_want(leaders: Iterable[int]) -> Iterator[None]:
    """Inside the block they and their children share a core with eight processes that want it whole."""
    core = min(os.sched_getaffinity(0))
    others = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(8)]
    try:
        ours = {pid for leader in leaders for pid in (leader, *stubs_of(leader))}
        for pid in (*ours, *(other.pid for other in others)):
            os.sched_setaffinity(pid, {core})
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


async def test_on_a_busy_machine_only_those_are_idle_who_wait_for_requests() -> None:
    busy, idle = {"computes": (COMPUTES, 1), "starves": (STARVES, 1)}, {"waits": (WAITS, 1), "wake up": (WAKES, 30)}
    with ExitStack() as stack:
        leaders = {name: stack.enter_context(leader_of(*case)) for name, case in (busy | idle).items()}
        stack.enter_context(one_core_that_others_want(leaders.values()))
        # One that waits is found to be idle within 1 s.
        found = await asyncio.gather(*(until_idle(leaders[name], 1.5 if name in busy else 30.0) for name in leaders))

    assert {name for name, is_idle in zip(leaders, found, strict=True) if is_idle} == idle.keys()


def test_looking_for_stubs_reads_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    read, stat_of = set[int](), _processes._stat_of

    def noted(folder: Path) -> list[str]:
        read.add(int(folder.name))
        return stat_of(folder)

    with leader_of(WAITS) as leader:
        monkeypatch.setattr(_processes, "_stat_of", noted)
        found = stubs_of(leader)
    assert read == {leader, *found}
