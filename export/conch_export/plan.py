"""How much of the machine an encoder takes: instances x threads. Hides the trade between throughput and latency."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum


class Aim(str, Enum):
    """What to plan for."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"


@dataclass(frozen=True)
class Plan:
    """Instances of the encoder, threads of each, and the most rows that one run merges.

    Rows are few on purpose: on a CPU a larger batch does not compute faster, it only leaves the cache.
    """

    instances: int
    threads: int
    max_rows: int = 8


def plan(cores: int, aim: Aim = Aim.THROUGHPUT) -> Plan:
    """One single-threaded instance a core for throughput, one instance with every core for latency."""
    if aim is Aim.LATENCY:
        return Plan(instances=1, threads=cores)
    return Plan(instances=cores, threads=1)


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))
