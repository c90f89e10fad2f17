"""`python -m tests.fuzz RUNS`: fuzzes every reader in turn and writes benchmarks/results/fuzz.json.

Readers that write whole folders are slow: they get a tenth of the runs.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmarks.machine import machine, revision, versions
from benchmarks.results import FOLDER
from tests.fuzz.targets import Targets

ROOT = Path(__file__).parents[2]
SLOW = re.compile("checkpoint|bundle|served tokenizer|config.pbtxt")
EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


class FaultError(Exception):
    """A reader failed otherwise than with an error of its own; the message has its traceback and the input."""


def fuzz(name: str, runs: int, seed: int = 1) -> int:
    """Fuzz one reader in a process of its own; return how many inputs it read.

    Raises:
        FaultError: it failed, hung or took too much memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.fuzz.reader", name, str(runs), folder, str(seed)]
        environment = os.environ | {"RUST_BACKTRACE": "0"}  # each panic would print one
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, cwd=ROOT, env=environment
        )
        found = EXECUTED.search(done.stdout + done.stderr)
        if done.returncode or found is None:
            inputs = [path.read_bytes() for path in Path(folder).iterdir() if path.is_file()]
            message = f"{name}: {(done.stdout + done.stderr)[-6_000:]}\ninput: {inputs}"
            raise FaultError(message)
    return int(found[1])


def main(runs: str) -> None:
    """Fuzz all readers."""
    executed: dict[str, int] = {}
    began = time.monotonic()
    for name in track(list(Targets(Path()).makers), "fuzzing"):
        executed[name] = fuzz(name, int(runs) // (10 if SLOW.match(name) else 1))
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": f"python -m tests.fuzz {runs}",
        "git": revision(),
        "machine": machine(),
        "versions": versions(),
        "seconds": round(time.monotonic() - began),
        "executions": executed,
        "total": sum(executed.values()),
        "faults": 0,
    }
    (FOLDER / "fuzz.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{result['total']:,} inputs, no fault")


if __name__ == "__main__":
    main(*sys.argv[1:])
