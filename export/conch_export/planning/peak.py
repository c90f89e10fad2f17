"""The memory that a graph really takes: measured in a process of its own (`peak_process.py`), as a served one has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conch_export.errors import ExportError

_PROCESS = Path(__file__).with_name("peak_process.py")


def measured_peak(graph: Path, *rows: int) -> int:
    """Bytes that were resident at most while an encoder's graph ran on rows of these lengths, on one thread.

    Raises:
        ExportError: the graph could not be run, for want of memory perhaps.
    """
    # Isolated, and by its path: what importing this package takes is no part of what serving takes.
    command = [sys.executable, "-I", str(_PROCESS), str(graph), *map(str, rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        msg = f"{graph} could not be run on {len(rows)} x {max(rows)} tokens ({reason}): try a smaller --max-length"
        raise ExportError(msg)
    return int(done.stdout)
