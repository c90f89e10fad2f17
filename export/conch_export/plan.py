"""How much of the machine an encoder takes: instances x threads. Hides the trade between throughput and latency."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum

from conch_export.graphs.encoder import Target

_GPU_ROWS = 64
"""Enough tokens to fill a GPU; there a larger batch does compute faster."""


class Aim(str, Enum):
    """What to plan for."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"


@dataclass(frozen=True)
class Plan:
    """Instances of the encoder, threads of each, the most rows that one run merges, and what they run on.

    Rows are few on a CPU on purpose: a larger batch does not compute faster there, it only waits longer.
    """

    instances: int
    threads: int
    max_rows: int = 8
    target: Target = Target.CPU


def plan(cores: int, aim: Aim = Aim.THROUGHPUT, target: Target = Target.CPU) -> Plan:
    """One single-threaded instance a core for throughput, one instance with every core for latency; one a GPU."""
    if target is Target.CUDA:
        return Plan(instances=1, threads=1, max_rows=_GPU_ROWS, target=target)
    if aim is Aim.LATENCY:
        return Plan(instances=1, threads=cores)
    return Plan(instances=cores, threads=1)


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))
