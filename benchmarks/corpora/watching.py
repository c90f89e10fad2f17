"""A run of `conch embed` with a clock: when each shard was done, and the memory of all that computed meanwhile."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from conch_batch import Workers, run

from benchmarks.disturbance import Disturbance

if TYPE_CHECKING:
    from conch_batch import Done, Job

EVERY_S = 1.0
_PROCESSES = "conch_batch.processes", "ray::Worker"
"""In the command lines of the processes that compute, on this machine and on a cluster that was started here."""
_QUARTERS = 4


class Clock:
    """Keeps what a run says, see `conch_batch.Watcher`, and how many cores other processes have used until then."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.others_cores = 0.0
        self._disturbance = Disturbance()
        self.rows = 0
        self.shards: list[tuple[float, Done]] = []

    def reading(self, files: int, of: int) -> None:
        pass

    def starting(self, rows: int, present: int) -> None:  # noqa: ARG002
        self.rows = rows

    def done(self, shard: Done) -> None:
        self.shards.append((time.perf_counter() - self.began, shard))
        self.others_cores = self._disturbance.cores()  # when the run has ended, nobody knows what its processes used


class Memory:
    """Resident MB of the processes that this process has started, sampled until the block ends; the largest one's."""

    def __init__(self) -> None:
        self.samples: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def quarters(self) -> list[float]:
        """The largest of each quarter of the samples, as far as there are any."""
        size = -(-len(self.samples) // _QUARTERS) or 1
        return [round(max(self.samples[at : at + size]), 1) for at in range(0, len(self.samples), size)]

    def _sample(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(EVERY_S):
            if found := [size for size in map(_resident_mb, me.children(recursive=True)) if size]:
                self.samples.append(max(found))


def _resident_mb(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        command = " ".join(process.cmdline())
        if any(name in command for name in _PROCESSES):
            return float(process.memory_info().rss) / 1e6
    return 0.0


def timed(job: Job, workers: Workers) -> dict[str, Any]:
    """Compute an output that is not there yet; seconds of all of it, and from the first row that was computed."""
    clock = Clock()
    with Memory() as memory:
        run(job, workers, clock)
    seconds = time.perf_counter() - clock.began
    tokens = sum(done.tokens for _, done in clock.shards)
    begun = min(at - done.seconds for at, done in clock.shards)
    ended = max(at for at, _ in clock.shards)
    return {
        "texts": sum(done.rows for _, done in clock.shards),
        "tokens": tokens,
        "seconds": round(ended - begun, 2),
        "tokens_per_s": round(tokens / (ended - begun), 1),
        "command_seconds": round(seconds, 2),
        "output_mb": round(sum(path.stat().st_size for path in Path(job.output).rglob("*.parquet")) / 1e6, 1),
        "actor_memory_mb_by_quarter": memory.quarters(),
        "others_cores": clock.others_cores,
    }
