"""Memory that this process may still take: of the machine, and within the limits of its control groups."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from conch_contract import control_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path("/")
_LIMITS = (("memory.max", "memory.current", ""), ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"))
"""Files of a group with its limit and its use, of either version; in version 1 names in memory.stat that begin so count
groups within the group too."""


def available_bytes(root: Path = _ROOT) -> int:
    """Bytes that can be taken before the kernel ends a process.

    Args:
        root: of the file system with `proc` and `sys`.
    """
    groups = control_groups("memory", root)
    return min([_of_machine(root / "proc"), *(left for folder in groups for left in _left(folder))])


def _of_machine(proc: Path) -> int:
    lines = (line.split() for line in (proc / "meminfo").read_text(encoding="ascii").splitlines())
    kibibytes = {words[0].rstrip(":"): int(words[1]) for words in lines}
    return 1024 * (kibibytes["MemAvailable"] + kibibytes.get("SwapFree", 0))


def _left(folder: Path) -> Iterator[int]:
    """Return the bytes that the limits of a group leave."""
    for *names, prefix in _LIMITS:
        with suppress(OSError, ValueError):  # no such file: no such limit; "max" is no number and no limit
            most, used = (int((folder / name).read_text(encoding="ascii")) for name in names)
            # Files that were read count as used, and are dropped where memory is needed. Those that were read twice,
            # as a checkpoint is that was fetched and hashed, are active.
            stated = (folder / "memory.stat").read_text(encoding="ascii").split()
            droppable = (stated.index(f"{prefix}{kind}_file") for kind in ("inactive", "active"))
            yield most - used + sum(int(stated[index + 1]) for index in droppable)
