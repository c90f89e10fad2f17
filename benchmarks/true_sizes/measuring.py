"""One worker's answers to some loads, from its start to its end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from benchmarks.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Command = list[str]


def measured(
    commands: Sequence[Command], log: Path, loads: Mapping[str, Path], seconds: float
) -> dict[str, dict[str, Any]]:
    """Start the processes of a worker, have them compute each load for so many seconds, and end them.

    Raises:
        WorkerError: one ended, or does not answer.
    """
    worker = Worker(commands, log)
    try:
        worker.wait_until_ready()
        return {name: worker.measure(load, seconds) for name, load in loads.items()}
    finally:
        worker.stop()


def over_http(address: str, model: str, clients: int, query: str = "") -> Command:
    """The command of a worker that sends each text in a request of its own; with a query, to be ranked for it."""
    return [
        sys.executable,
        "-m",
        "benchmarks.worker_http",
        address,
        model,
        str(clients),
        "1",
        *([query] if query else []),
    ]
