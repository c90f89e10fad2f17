"""A mount namespace of its own, so that what is filled is nobody else's: /dev/shm and the run directory.

It takes root, or a kernel that lets users make namespaces. Without either the faults that need it are left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
SHARED_MEMORY_MIB, RUN_DIRECTORY_MIB = 256, 128
MARK = "SOAK_ISOLATED"


def enter() -> None:
    """Run this program again in a namespace of its own, where that is possible; does not return then."""
    if MARK in os.environ:
        return
    os.environ[MARK] = ""
    command = next((command for command in _commands() if _works(command)), None)
    if command is not None:
        os.environ[MARK] = "yes"
        os.execvp(command[0], [*command, sys.executable, *sys.orig_argv[1:]])  # noqa: S606  no shell is wanted


def is_isolated() -> bool:
    """Whether this process has mounts of its own."""
    return os.environ.get(MARK) == "yes"


def mount(run_directory: Path) -> None:
    """Give this process and its children a /dev/shm and a run directory of bounded size."""
    run_directory.mkdir(parents=True, exist_ok=True)
    for folder, size in ((SHARED_MEMORY, SHARED_MEMORY_MIB), (run_directory, RUN_DIRECTORY_MIB)):
        _run("mount", "-t", "tmpfs", "-o", f"size={size}m,mode=1777", "tmpfs", str(folder))


def unmount(run_directory: Path) -> None:
    """Let the folder of the run directory be removed."""
    _run("umount", "--lazy", str(run_directory))


def fill(folder: Path) -> Path:
    """Leave no room in the file system of a folder; return the file that takes it all."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 20)):
                pass
        except OSError:
            return filler
    return filler


def _commands() -> list[list[str]]:
    if shutil.which("unshare") is None:
        return []
    unshare = ["unshare", "--mount", "--propagation", "private"]
    return [unshare, [*unshare, "--map-root-user"]]


def _works(command: list[str]) -> bool:
    trial = [*command, "mount", "-t", "tmpfs", "tmpfs", str(SHARED_MEMORY)]
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
