"""`python -m tests.fuzz RUNS [READER ...]`: fuzzes every reader in turn and writes benchmarks/results/fuzz.json.

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
RESULT = FOLDER / "fuzz.json"
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


def main(runs: str, *names: str) -> None:
    """Fuzz the readers of these names, or all; what each has read is written down as soon as it is done."""
    for name in track(names or list(Targets(Path()).makers), "fuzzing"):
        began = time.monotonic()
        executed = fuzz(name, int(runs) // (10 if SLOW.match(name) else 1))
        _write_down(name, {"inputs": executed, "seconds": round(time.monotonic() - began), "git": revision()})
    print(f"{json.loads(RESULT.read_text(encoding='utf-8'))['total']:,} inputs, no fault")


def _write_down(name: str, found: dict[str, Any]) -> None:
    readers = json.loads(RESULT.read_text(encoding="utf-8"))["readers"] if RESULT.exists() else {}
    readers[name] = found
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": "python -m tests.fuzz RUNS [READER ...]",
        "machine": machine(),
        "versions": versions(),
        "readers": readers,
        "total": sum(reader["inputs"] for reader in readers.values()),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
