"""Real sentences for calibration and verification, found on every machine: Python's own documentation strings."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCRIPT = Path(__file__).with_name("docstrings.py")


@cache
def docstrings() -> tuple[str, ...]:
    """Distinct documentation strings of the standard library, about 3,000; they depend only on the Python version.

    Read in a process of their own: libraries such as PyTorch change some when they are imported, and an export must not
    depend on what was imported before it.
    """
    # Isolated, and without site-packages, whose .pth files may import anything.
    command = [sys.executable, "-I", "-S", str(_SCRIPT)]
    return tuple(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))


def spread(texts: Sequence[str], count: int) -> list[str]:
    """`count` of the texts, evenly from the shortest to the longest."""
    ordered = sorted(texts, key=len)
    step = max(1, (len(ordered) - 1) / max(1, count - 1))
    return [ordered[round(i * step)] for i in range(min(count, len(ordered)))]
