"""Cores that other processes used during a measurement, without which a slow result cannot be explained."""

from __future__ import annotations

import contextlib
import time

import psutil


class Disturbance:
    """Measures from its creation on, without this process and its descendants."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._all, self._ours = _all_busy_s(), _ours_busy_s()

    def cores(self) -> float:
        """Mean number of cores busy with other processes, including other guests of the host (steal)."""
        others = _all_busy_s() - self._all - (_ours_busy_s() - self._ours)
        return round(max(0.0, others / (time.perf_counter() - self._began)), 2)


def _all_busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def _ours_busy_s() -> float:
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # with those of children that have ended
    return total
