"""How much of the machine an encoder takes: instances x threads, and how many requests may wait for it.

Hides the trade between throughput and latency.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from conch_export.model.description import Target

ANY_MACHINE_CORES = 2
"""Cores of a plan that states none: `conch serve` fits it to the machine that serves."""

_GPU_ROWS = 64
"""Enough tokens to fill a GPU; there a larger batch does compute faster."""


@dataclass(frozen=True)
class Queue:
    """Limits of a model's queue in Triton; requests beyond them are refused with UNAVAILABLE.

    They cost time: with limits Triton forms no batch ahead, and may leave an instance idle for half a second (ADR 43).

    Attributes:
        requests: most that wait at a time; those being computed do not count.
        timeout_s: longest that one waits.
    """

    requests: int
    timeout_s: int = 600


class PerCore(str, Enum):
    """Which number of a plan follows the cores of the machine that serves."""

    NOTHING = ""
    INSTANCES = "instances"
    THREADS = "threads"


class Aim(str, Enum):
    """Aim of a plan."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"


@dataclass(frozen=True)
class Plan:
    """Instances of the encoder, threads of each, the most rows that one run merges, and what they run on.

    Rows are few on a CPU on purpose: a larger batch does not compute faster there, it only waits longer.
    `per_core` says which of these numbers `conch serve` replaces by the cores of its machine. Without `queue` any
    number of requests may wait.
    """

    instances: int
    threads: int
    max_rows: int = 8
    target: Target = Target.CPU
    queue: Queue | None = None
    per_core: PerCore = PerCore.NOTHING


def plan(
    cores: int | None = None,
    aim: Aim = Aim.THROUGHPUT,
    target: Target = Target.CPU,
    queue: Queue | None = None,
) -> Plan:
    """One single-threaded instance a core for throughput, one instance with every core for latency; one a GPU.

    Without `cores` the plan is the same on every machine, and says what there is to be one of for each core.
    """
    if target is Target.CUDA:
        return Plan(instances=1, threads=1, max_rows=_GPU_ROWS, target=target, queue=queue)
    count = cores or ANY_MACHINE_CORES
    if aim is Aim.LATENCY:
        return Plan(instances=1, threads=count, queue=queue, per_core=PerCore.NOTHING if cores else PerCore.THREADS)
    return Plan(instances=count, threads=1, queue=queue, per_core=PerCore.NOTHING if cores else PerCore.INSTANCES)
