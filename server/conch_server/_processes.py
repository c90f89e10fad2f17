"""The stubs of a tritonserver, one process per model instance, as /proc shows them."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")


def stubs_of(leader: int) -> frozenset[int]:
    """Process ids in the group of the tritonserver `leader`, without its own and those of the dead."""
    candidates = (int(process.name) for process in PROC.glob("[0-9]*"))
    return frozenset(pid for pid in candidates if pid != leader and lives(pid, leader))


def lives(pid: int, leader: int) -> bool:
    """Whether process `pid` still runs in the group of `leader`; Triton never notices that a stub has died."""
    fields = _stat(pid)
    return fields is not None and fields[0] not in "ZX" and int(fields[2]) == leader


def busy_s(pids: frozenset[int]) -> float:
    """Processor time in seconds that these processes have used so far."""
    used = [int(fields[11]) + int(fields[12]) for fields in map(_stat, pids) if fields]
    return sum(used) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str] | None:
    """State, parent, group, ... (proc(5)); what precedes them has a name with any character in it."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
