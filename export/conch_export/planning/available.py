"""Memory that this process may still take: of the machine, and within the limits of its control groups."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_ROOT = Path("/")


def available_bytes(root: Path = _ROOT) -> int:
    """Bytes that can be taken before the kernel ends a process.

    Args:
        root: of the file system with `proc` and `sys`.
    """
    return min([_of_machine(root / "proc"), *_of_groups(root)])


def _of_machine(proc: Path) -> int:
    lines = (line.split() for line in (proc / "meminfo").read_text(encoding="ascii").splitlines())
    kibibytes = {words[0].rstrip(":"): int(words[1]) for words in lines}
    return 1024 * (kibibytes["MemAvailable"] + kibibytes.get("SwapFree", 0))


def _of_groups(root: Path) -> list[int]:
    """Return the bytes that each memory limit leaves, of this process's control group and of those around it."""
    found, groups = [], root / "sys" / "fs" / "cgroup"
    with suppress(OSError):
        for line in (root / "proc" / "self" / "cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found += _left(groups, path, ("memory.max", "memory.current"), "")
            elif "memory" in controllers.split(","):
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
                found += _left(groups / "memory", path, names, "total_")
    return found


def _left(groups: Path, path: str, names: tuple[str, str], prefix: str) -> list[int]:
    """Return the bytes that the limits leave; with `prefix` names in memory.stat count groups within a group too."""
    folder, found = groups / path.lstrip("/"), []
    while folder.is_relative_to(groups):
        with suppress(OSError, ValueError):  # no such file: no such limit; "max" is no number and no limit
            most, used = (int((folder / name).read_text(encoding="ascii")) for name in names)
            # Files that were read count as used, and are dropped where memory is needed. Those that were read twice,
            # as a checkpoint is that was fetched and hashed, are active.
            stated = (folder / "memory.stat").read_text(encoding="ascii").split()
            droppable = (stated.index(f"{prefix}{kind}_file") for kind in ("inactive", "active"))
            found.append(most - used + sum(int(stated[index + 1]) for index in droppable))
        folder = folder.parent
    return found
