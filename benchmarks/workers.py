"""Worker processes and their answers. Several processes that share a workload count as one worker."""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from conch.load.closed_loop import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch.load.closed_loop import Load

# For connections and caches of a server under load; what is sent in it is not counted.
WARM_UP_S = 0.3
START_TIMEOUT_S = 240.0
# What a measurement may take beyond its time: the first and the last batch of the slowest peer.
SLACK_S = 300.0
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
ROOT = Path(__file__).parent.parent


class WorkerError(Exception):
    """A worker died, did not answer or reported an error; its log has the details."""


class Worker:
    """One process per command; requests go to all of them at once.

    Args:
        commands: what to start.
        log: file for what the processes write to standard error.
    """

    def __init__(self, commands: Sequence[Sequence[str]], log: Path) -> None:
        self._log = log
        with log.open("ab") as errors:
            self._processes = [
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=os.environ | ENVIRONMENT,
                    cwd=ROOT,
                )
                for command in commands
            ]

    def wait_until_ready(self) -> None:
        """Wait until every process is ready."""
        for process in self._processes:
            self._answer(process, START_TIMEOUT_S)

    def measure(self, workload: Path, seconds: float) -> dict[str, Any]:
        """Return one measurement; rates of concurrent processes are added."""
        answers = self._ask({"op": "measure", "workload": str(workload), "seconds": seconds}, seconds + SLACK_S)
        return merged(answers)

    def embed(self, workload: Path, count: int) -> list[list[float]]:
        """Vectors of the first texts."""
        vectors: list[list[float]] = self._ask({"op": "embed", "workload": str(workload), "count": count}, SLACK_S)[0][
            "vectors"
        ]
        return vectors

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                _of(pipe).close()

    def _ask(self, message: dict[str, Any], timeout_s: float) -> list[dict[str, Any]]:
        line = json.dumps(message).encode() + b"\n"
        for process in self._processes:
            pipe = _of(process.stdin)
            pipe.write(line)
            pipe.flush()
        return [self._answer(process, timeout_s) for process in self._processes]

    def _answer(self, process: subprocess.Popen[bytes], timeout_s: float) -> dict[str, Any]:
        pipe = _of(process.stdout)
        if not select.select([pipe], [], [], timeout_s)[0]:
            raise WorkerError(f"{process.args!r} said nothing for {timeout_s:.0f} s; see {self._log}")
        line = pipe.readline()
        if not line:
            raise WorkerError(f"{process.args!r} ended with status {process.wait()}; see {self._log}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{answer['error']}; see {self._log}")
        return answer


def merged(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Combine the measurements of concurrent processes: rates are added, each over its own time."""
    rates = {f"{unit}_per_s": sum(a[unit] / a["seconds"] for a in answers) for unit in ("texts", "tokens")}
    sums = {name: sum(a[name] for a in answers) for name in ("texts", "tokens", "errors")}
    latency = {name: max(a["latency_ms"][name] for a in answers) for name in answers[0]["latency_ms"]}
    return {**sums, "seconds": max(a["seconds"] for a in answers), **rates, "latency_ms": latency}


def load_report(load: Load) -> dict[str, Any]:
    """A worker's answer to `measure`, from a closed loop."""
    return {
        "texts": load.texts,
        "tokens": load.tokens,
        "seconds": load.seconds or math.inf,
        "errors": sum(load.errors.values()),
        "latency_ms": {f"p{p}": percentile(load.latencies_s, p) * 1e3 for p in (50, 95, 99)},
    }


def _of(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise WorkerError("the process was started without a pipe")
    return pipe
