"""The stubs of a tritonserver: one process for each model instance, observed through /proc.

Triton itself says neither that a stub has died nor how much is in flight.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Collection

PROC = Path("/proc")
POLL_S = 0.02
REAPED_S = 0.1  # in which Triton waits for the stubs that it ends itself
LOOK_S = 0.1  # between two looks where the system does not tell when a process ends
WINDOW_S = 0.1
# A stub that computes takes a whole core; an idle one wakes up a few times a second.
IDLE_SHARE = 0.2
# On a single core, requests in flight have been seen to leave it unused for 0.45 s between two runs.
IDLE_WINDOWS = 10


def stubs_of(leader: int) -> frozenset[int]:
    """Return the process ids in the group of tritonserver `leader`, but for its own."""
    return frozenset(pid for pid in _group(leader) if pid != leader)


async def until_one_dies(leader: int, look_every_s: float) -> None:
    """Return once a stub of tritonserver `leader` has died; look for new stubs every `look_every_s` seconds.

    Triton waits for the stubs of a model that it unloads, so those are zombies for a moment only. It does not notice
    when any other stub dies.
    """
    while True:
        stubs = stubs_of(leader)
        await _until_one_ends(stubs, look_every_s)
        if dead := _zombies(stubs, leader):
            await asyncio.sleep(REAPED_S)
            if _zombies(dead, leader):
                return


async def _until_one_ends(pids: Collection[int], within_s: float) -> None:
    """Return once one of the processes has ended, or after `within_s`."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    with ExitStack() as opened:
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            except (AttributeError, OSError):  # Linux before 5.3, a sandbox, or no descriptor is left
                within_s = min(within_s, LOOK_S)
                break
            opened.callback(os.close, descriptor)
            loop.add_reader(descriptor, ended.set)
            opened.callback(loop.remove_reader, descriptor)
        with anyio.move_on_after(within_s):
            await ended.wait()


def _zombies(pids: frozenset[int], leader: int) -> frozenset[int]:
    """Return the processes of the group of `leader` among these that have ended and that nobody has waited for."""
    return frozenset(pid for pid, fields in _group(leader, pids).items() if fields[0] == "Z")


def memory_of(leader: int) -> int:
    """Return the resident bytes of all processes in the group of tritonserver `leader`."""
    return sum(int(fields[21]) for fields in _group(leader).values()) * os.sysconf("SC_PAGE_SIZE")


async def until_gone(leader: int, timeout_s: float) -> None:
    """Return once no process of the group of `leader` runs (zombies do not), or after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and any(fields[0] not in "ZX" for fields in _group(leader).values()):  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)


async def until_idle(leader: int, timeout_s: float) -> bool:
    """Return true once tritonserver `leader` and its stubs have nothing to compute, false if they do after `timeout_s`.

    SIGTERM is no alternative: it stops the schedulers of all models at once, and an ensemble between two of its steps
    fails with "Server is stopping".
    """
    stubs = stubs_of(leader)
    deadline, idle = time.monotonic() + timeout_s, 0
    times, runnable = _processor_times_s(stubs), _runnable({leader, *stubs})
    while idle < IDLE_WINDOWS:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(WINDOW_S)
        before, times = times, _processor_times_s(stubs)
        # Each by itself: of a hundred idle stubs some wake up in every window.
        computes = any(now - before.get(pid, now) > IDLE_SHARE * WINDOW_S for pid, now in times.items())
        # On a busy machine, a thread that has work may get no processor time: then it is runnable in both samples.
        earlier, runnable = runnable, _runnable({leader, *stubs})
        idle = 0 if computes or earlier & runnable else idle + 1
    return True


def _runnable(pids: Collection[int]) -> set[Path]:
    """Return the threads of these processes that compute now, or wait for a processor or a disk."""
    threads = (thread for pid in pids for thread in (PROC / str(pid) / "task").glob("[0-9]*"))
    return {thread for thread in threads if (fields := _stat_of(thread)) and fields[0] in {"R", "D"}}


def _processor_times_s(pids: frozenset[int]) -> dict[int, float]:
    """Return the processor time that each of these processes has taken so far."""
    found = {pid: fields for pid in pids if (fields := _stat(pid))}
    return {pid: (int(each[11]) + int(each[12])) / os.sysconf("SC_CLK_TCK") for pid, each in found.items()}


def _group(leader: int, among: frozenset[int] | None = None) -> dict[int, list[str]]:
    """Return the processes of the group of `leader`, of all processes or of those `among`, with their `_stat`."""
    pids = (int(process.name) for process in PROC.iterdir() if process.name.isdecimal()) if among is None else among
    # Asking for the group is one system call: reading the status of every process of the machine would keep the event
    # loop of the gateway from its requests for tens of milliseconds.
    return {pid: fields for pid in pids if _in_group(pid, leader) and (fields := _stat(pid))}


def _in_group(pid: int, leader: int) -> bool:
    try:
        return os.getpgid(pid) == leader
    except ProcessLookupError:
        return False


def _stat(pid: int) -> list[str]:
    """Return `_stat_of` a process."""
    return _stat_of(PROC / str(pid))


def _stat_of(folder: Path) -> list[str]:
    """Return state, parent, group, … (proc(5), after the name, which may hold any character); empty if it is gone."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
