"""The stubs of a tritonserver, one process per model instance, as /proc shows them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC = Path("/proc")


def stubs_of(leader: int) -> frozenset[int]:
    """Process ids in the group of the tritonserver `leader`, without its own and those of the dead."""
    return frozenset(pid for pid, state in _group(leader) if state not in "ZX")


def dead_stubs_of(leader: int) -> frozenset[int]:
    """Process ids of stubs that have ended and that nobody waits for.

    Triton waits for the stubs of a model that it unloads, and never notices that another one has died.
    """
    return frozenset(pid for pid, state in _group(leader) if state == "Z")


def _group(leader: int) -> Iterator[tuple[int, str]]:
    for process in PROC.glob("[0-9]*"):
        fields = _stat(int(process.name))
        if fields is not None and int(fields[2]) == leader and int(process.name) != leader:
            yield int(process.name), fields[0]


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
