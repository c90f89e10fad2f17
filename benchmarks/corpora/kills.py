"""`conch embed` killed at random moments and run again until it is done; `results/corpus-kills.json`.

    python -m benchmarks.corpora.kills [--kills 50] [--seed 0]

Each run of the command is killed with all its processes: one in four within its first seconds, the others a random
while after their first shard. When nothing is missing any more the output is compared, byte by byte, with that of one
run that nobody disturbed, and a new one is begun until there have been so many kills. Ends with status 1 where a file
differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.corpora.docstrings import corpus
from benchmarks.machine import ROOT, measured_by
from benchmarks.models import NAME

if TYPE_CHECKING:
    from collections.abc import Callable

RESULT = ROOT / "benchmarks" / "results" / "corpus-kills.json"
TEXTS, SHARD_ROWS = 6000, 20
EARLY_S, LATE_S = 5.0, 4.0
_SESSION = "CONCH_KILLED"


class Runs:
    """The command over one corpus."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def start(self, output: Path) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).parent / "conch"), "embed", str(self._path), "--output", str(output)]
        command += ["--model", NAME, "--repository", str(ROOT / "model_repository"), "--shard-rows", str(SHARD_ROWS)]
        nowhere = subprocess.DEVNULL
        environment = os.environ | {_SESSION: str(output)}
        return subprocess.Popen(command, stdout=nowhere, stderr=nowhere, env=environment, start_new_session=True)


def kill_all(output: Path) -> None:
    """Every process of the run, wherever Ray has put it."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ValueError):
            if process.environ().get(_SESSION) == str(output):
                process.send_signal(signal.SIGKILL)


def wait(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and not condition():
        time.sleep(0.01)


def shards(output: Path) -> int:
    return len(list(output.glob("part-*.parquet")))


def files(output: Path) -> dict[str, bytes]:
    found = (path for path in output.rglob("*") if path.is_file())
    return {str(path.relative_to(output)): path.read_bytes() for path in found}


def kill_once(runs: Runs, output: Path, rng: random.Random) -> str:
    """Run, kill; what there was to kill."""
    before, process = shards(output), runs.start(output)
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0, EARLY_S))
    else:
        wait(lambda: shards(output) > before, process)
        time.sleep(rng.uniform(0, LATE_S))
    ended = process.poll() is not None
    kill_all(output)
    process.wait()
    if ended:
        return "done before"
    return "no shard added" if shards(output) == before else "shards added"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=ROOT / ".run" / "corpora-kills")
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    corpus(options.folder / "docstrings.parquet", TEXTS)
    runs, rng, began = Runs(options.folder / "docstrings.parquet"), random.Random(options.seed), time.perf_counter()
    whole = options.folder / "whole"
    runs.start(whole).wait()
    expected = files(whole)
    outcomes: list[dict[str, Any]] = []
    while sum(each["kills"] for each in outcomes) < options.kills:
        left = options.kills - sum(each["kills"] for each in outcomes)
        outcomes.append(one_output(runs, options.folder / f"output-{len(outcomes)}", rng, left, expected))
        print(json.dumps(outcomes[-1]), flush=True)
    wrong = [each for each in outcomes if each["differing_files"]]
    result = {
        **measured_by(" ".join(["python -m benchmarks.corpora.kills", *sys.argv[1:]])),
        "texts": TEXTS,
        "shards": -(-TEXTS // SHARD_ROWS),
        "kills": sum(each["kills"] for each in outcomes),
        "outputs": outcomes,
        "minutes": round((time.perf_counter() - began) / 60, 1),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    sys.exit(1 if wrong else 0)


def one_output(runs: Runs, output: Path, rng: random.Random, kills: int, expected: dict[str, bytes]) -> dict[str, Any]:
    """One output, killed until it is done or has been killed so often, and then finished."""
    found: dict[str, int] = {}
    while sum(found.values()) < kills and "done before" not in found:
        outcome = kill_once(runs, output, rng)
        found[outcome] = found.get(outcome, 0) + 1
    runs.start(output).wait()
    made = files(output)
    differing = sorted(name for name in {*made, *expected} if made.get(name) != expected.get(name))
    return {"kills": sum(found.values()) - found.get("done before", 0), "outcomes": found, "differing_files": differing}


if __name__ == "__main__":
    main()
