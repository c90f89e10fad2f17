"""A command in a process of its own: its time, and the most memory that it and its children took."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.machine import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

_SAMPLE_S = 0.05


class StepError(Exception):
    """A command failed; the message is the last line that it wrote."""


@dataclass(frozen=True)
class Ran:
    """A command that has succeeded.

    Attributes:
        printed: to standard output.
        seconds: from start to end.
        cpu_seconds: of it and its children.
        peak_mb: resident MB (1e6 bytes) at most, mapped files included, which the kernel can drop.
        peak_anonymous_mb: the same without mapped files.
    """

    printed: str
    seconds: float
    cpu_seconds: float
    peak_mb: float
    peak_anonymous_mb: float


def run(command: Sequence[str], log: Path) -> Ran:
    """Run a command and watch its memory.

    Args:
        command: what to run.
        log: file for standard error; standard output goes beside it.

    Raises:
        StepError: it ended with another status than 0.
    """
    output = log.with_suffix(".out")
    before, began = _cpu_s(), time.perf_counter()
    with log.open("w") as errors, output.open("w") as printed:
        process = subprocess.Popen(
            command, stdout=printed, stderr=errors, stdin=subprocess.DEVNULL, cwd=ROOT, start_new_session=True
        )
        try:
            peaks = _watch(process)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    seconds = time.perf_counter() - began
    if process.returncode:
        raise StepError(_reason(process.returncode, log))
    return Ran(output.read_text("utf-8"), seconds, _cpu_s() - before, peaks[0] / 1e6, peaks[1] / 1e6)


def _watch(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    peaks = (0, 0)
    while process.poll() is None:
        resident, anonymous = _memory(process.pid)
        peaks = (max(peaks[0], resident), max(peaks[1], anonymous))
        time.sleep(_SAMPLE_S)
    return peaks


def _memory(pid: int) -> tuple[int, int]:
    """Bytes of a process and its children: resident, and those without mapped files."""
    resident = anonymous = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in (parent := psutil.Process(pid), *parent.children(recursive=True)):
            with contextlib.suppress(OSError, IndexError):
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
                resident += int(status.partition("VmRSS:")[2].split()[0]) * 1024
                anonymous += int(status.partition("RssAnon:")[2].split()[0]) * 1024
    return resident, anonymous


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reason(status: int, log: Path) -> str:
    lines = [line.strip("│╭╮╰╯─ ") for line in log.read_text("utf-8", errors="replace").splitlines()]
    if status == -signal.SIGKILL:
        return "it was killed, as by the kernel when memory runs out"
    return next(filter(None, reversed(lines)), f"it ended with status {status}")
