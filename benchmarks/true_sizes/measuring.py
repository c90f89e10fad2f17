"""Workers' answers to loads: of one system alone, and of several in turns."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.servers import ServerError
from benchmarks.venvs import InstallError
from benchmarks.workers import Worker, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

Command = list[str]
FAILURES = (InstallError, ServerError, WorkerError, OSError, subprocess.SubprocessError)
ROUNDS = 3


@dataclass(frozen=True)
class System:
    """What computes the loads.

    Attributes:
        together: commands of the processes that compute many texts.
        alone: of those that compute one text at a time; empty if that is not asked for.
    """

    together: Sequence[Command]
    alone: Sequence[Command] = ()


def measured(
    commands: Sequence[Command], log: Path, loads: Mapping[str, Path], seconds: float
) -> dict[str, dict[str, Any]]:
    """Start the processes of a worker, have them compute each load for so many seconds, and end them.

    Raises:
        WorkerError: one ended, or does not answer.
    """
    with _started(commands, log) as worker:
        return {name: worker.measure(load, seconds) for name, load in loads.items()}


def compared(
    systems: Mapping[str, Callable[[], AbstractContextManager[System]]],
    log: Path,
    loads: Mapping[str, Path],
    seconds: float,
    on_step: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Latencies and rate of every system, or why it has none.

    All are started, then they compute the mixed load in turns, because other load on the machine changes more slowly
    than turns do. A rate is the median of the turns.

    Args:
        systems: by name; entering one starts what it needs.
        log: of the workers.
        loads: files of texts: "mixed", and those for which one text at a time is measured.
        seconds: of one measurement.
        on_step: told what begins.
    """
    found: dict[str, dict[str, Any]] = {}
    single = {name: load for name, load in loads.items() if name != "mixed"}
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name, start in systems.items():
            on_step(f"{name}: start, one text at a time")
            try:
                system = stack.enter_context(start())
                answers = measured(system.alone, log, single, seconds) if system.alone else {}
                workers[name] = stack.enter_context(_started(system.together, log))
            except FAILURES as error:
                found[name] = {"not_measured": _reason(error)}
            else:
                found[name] = {"latency_ms": {load: answer["latency_ms"]["p50"] for load, answer in answers.items()}}
        for name, turns in _turns(workers, loads["mixed"], seconds, on_step).items():
            found[name] |= turns
    return found


def over_http(address: str, model: str, clients: int, query: str = "", *, texts: int = 1) -> Command:
    """The command of a worker that sends so many texts in a request; with a query, to be ranked for it."""
    worker = [sys.executable, "-m", "benchmarks.worker_http", address, model, str(clients), str(texts)]
    return [*worker, *([query] if query else [])]


def _turns(
    workers: Mapping[str, Worker], load: Path, seconds: float, on_step: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    failed: dict[str, dict[str, Any]] = {}

    def measure(name: str) -> None:
        try:
            turns[name].append(workers[name].measure(load, seconds))
        except WorkerError as error:
            failed[name] = {"not_measured": _reason(error)}

    for turn in range(ROUNDS):
        on_step(f"mixed texts, round {turn + 1} of {ROUNDS}: {', '.join(turns)}")
        for name in [name for name in workers if name not in failed]:
            measure(name)
    return {name: failed.get(name) or _median(each) for name, each in turns.items()}


def _median(turns: list[dict[str, Any]]) -> dict[str, Any]:
    ordered = sorted(turns, key=lambda turn: turn["tokens_per_s"])
    return {"mixed": ordered[len(ordered) // 2], "tokens_per_s_of_rounds": [turn["tokens_per_s"] for turn in turns]}


@contextlib.contextmanager
def _started(commands: Sequence[Command], log: Path) -> Iterator[Worker]:
    worker = Worker(commands, log)
    try:
        worker.wait_until_ready()
        yield worker
    finally:
        worker.stop()


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"its model could not be made, status {error.returncode}"
    # Without the command that it begins with and the log that it ends with, which are of this machine.
    return " ".join(str(error).rpartition("] ")[2].partition("; see ")[0].split())[:200]
