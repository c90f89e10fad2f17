"""Compares generated pages with the committed ones, in a process that may take the machine for another."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

GENERATE = str(Path(__file__).parents[2] / "docs" / "generate.py")


def check(cores: int) -> None:
    """As `docs/generate.py --check` on a machine with this many cores; nothing of conch may be imported before."""
    assert not any(name.partition("_")[0] == "conch" for name in sys.modules)
    os.cpu_count, os.sched_getaffinity = lambda: cores, lambda _: set(range(cores))
    sys.argv = [GENERATE, "--check"]
    runpy.run_path(GENERATE, run_name="__main__")
