"""Cores that a process may compute on, and the control groups that limit it."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path("/")


def usable_cores(root: Path = _ROOT) -> int:
    """Number of cores that this process may run on, and no more than the CPU quotas of its control groups give it.

    A container that is started with ``--cpus 1.5`` has two, on a machine of any size.

    Args:
        root: Of the file system with ``proc`` and ``sys``.
    """
    quotas = (quota for folder in control_groups("cpu", root) for quota in _quotas(folder))
    return min([len(os.sched_getaffinity(0)), *(max(1, math.ceil(quota)) for quota in quotas)])


def control_groups(controller: str, root: Path = _ROOT) -> Iterator[Path]:
    """Folders of this process's control group and of those around it, of version 2 and of the controller's version 1.

    Args:
        controller: Such as ``memory``.
        root: Of the file system with ``proc`` and ``sys``.
    """
    groups = root / "sys" / "fs" / "cgroup"
    with suppress(OSError):
        for line in (root / "proc" / "self" / "cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            top = groups / controller if controllers else groups
            folder = top / path.lstrip("/")
            while folder.is_relative_to(top):
                yield folder
                folder = folder.parent


def _quotas(folder: Path) -> Iterator[float]:
    with suppress(OSError, ValueError):  # no such file: no such limit; "max" is no number and no limit
        most, period = map(int, (folder / "cpu.max").read_text(encoding="ascii").split())
        yield most / period
    with suppress(OSError, ValueError):
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        most, period = (int((folder / name).read_text(encoding="ascii")) for name in names)
        if most > 0:
            yield most / period
