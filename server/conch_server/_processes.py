"""The stubs of a tritonserver, one process per model instance, as /proc shows them."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.02


def stubs_of(leader: int) -> frozenset[int]:
    """Process ids in the group of the tritonserver `leader`, without its own; looks at every process of the machine."""
    return frozenset(
        int(process.name)
        for process in PROC.glob("[0-9]*")
        if int(process.name) != leader and _is_in(_stat(int(process.name)), leader)
    )


async def until_gone(leader: int, timeout_s: float) -> None:
    """Return once no process of the group of `leader` runs, or in time; what only waits to be reaped does not run."""
    deadline = time.monotonic() + timeout_s
    while _runs(leader) and time.monotonic() < deadline:  # noqa: ASYNC110  nobody would set an event
        await asyncio.sleep(POLL_S)


def dead_among(stubs: frozenset[int], leader: int) -> frozenset[int]:
    """Those that have ended and that nobody waits for.

    Triton waits for the stubs of a model that it unloads, and never notices that another one has died.
    """
    seen = {pid: _stat(pid) for pid in stubs}
    return frozenset(pid for pid, fields in seen.items() if fields and fields[0] == "Z" and _is_in(fields, leader))


def busy_s(pids: frozenset[int]) -> float:
    """Processor time in seconds that these processes have used so far."""
    used = [int(fields[11]) + int(fields[12]) for fields in map(_stat, pids) if fields]
    return sum(used) / os.sysconf("SC_CLK_TCK")


def _runs(leader: int) -> bool:
    fields = (_stat(int(process.name)) for process in PROC.glob("[0-9]*"))
    return any(_is_in(found, leader) and found is not None and found[0] not in "ZX" for found in fields)


def _is_in(fields: list[str] | None, group: int) -> bool:
    return fields is not None and int(fields[2]) == group


def _stat(pid: int) -> list[str] | None:
    """State, parent, group, ... (proc(5)); what precedes them has a name with any character in it."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
