"""`conch embed` killed at random moments and run again until it is done; `results/corpus-kills.json`.

    python -m benchmarks.corpora.kills [--kills 50] [--seed 0]

Each run of the command is killed with all its processes: one in four within its first seconds, the others a random
while after their first shard. When nothing is missing any more the output is compared, byte by byte, with that of one
run that nobody disturbed, and a new one is begun until there have been so many kills. Ends with status 1 where a file
differs. The results of another seed are added to those that are there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.corpora.docstrings import corpus
from benchmarks.corpora.parts import Parts
from benchmarks.machine import ROOT
from benchmarks.models import NAME

if TYPE_CHECKING:
    from collections.abc import Callable

RESULT = ROOT / "benchmarks" / "results" / "corpus-kills.json"
TEXTS, SHARD_ROWS = 3000, 10
EARLY_S, LATE_S = 5.0, 2.0
LONGEST_S = 300.0
"""Of one run of the command."""
_SESSION = "CONCH_KILLED"


class CommandError(Exception):
    """The command failed by itself; the message has its last words."""


class Runs:
    """The command over one corpus.

    Args:
        path: of the corpus.
        work: where its processes have their temporary files: killed ones do not remove them.
    """

    def __init__(self, path: Path, work: Path) -> None:
        self._path, self._work = path, work

    def start(self, output: Path) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).parent / "conch"), "embed", str(self._path), "--output", str(output)]
        command += ["--model", NAME, "--repository", str(ROOT / "model_repository"), "--shard-rows", str(SHARD_ROWS)]
        environment = os.environ | {_SESSION: str(output), "TMPDIR": str(self._work)}
        with (self._work / "log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)

    def finish(self, output: Path) -> None:
        """Run to the end; raises CommandError."""
        self.check(self.start(output).wait(LONGEST_S))

    def check(self, status: int | None) -> None:
        """Raise CommandError where the command ended otherwise than well."""
        if status:
            raise CommandError((self._work / "log").read_text("utf-8", errors="replace")[-2000:])


def kill_all(run: subprocess.Popen[bytes], output: Path) -> None:
    """Every process of a run, and those that they start meanwhile."""
    while processes := [each for each in psutil.process_iter() if _is_of(each, run.pid, output)]:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        time.sleep(0.05)
    run.wait()


def _is_of(process: psutil.Process, pid: int, output: Path) -> bool:
    """Below the run's first process; or, where the one that started it has ended, by its environment."""
    with contextlib.suppress(psutil.Error, ValueError):
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        above = {process.pid, *(parent.pid for parent in process.parents())}
        return pid in above or process.environ().get(_SESSION) == str(output)
    return False


def wait(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + LONGEST_S
    while process.poll() is None and not condition():
        if time.monotonic() > end:
            raise CommandError(f"no shard was added in {LONGEST_S:.0f} s")
        time.sleep(0.01)


def shards(output: Path) -> int:
    return len(list(output.glob("part-*.parquet")))


def files(output: Path) -> dict[str, bytes]:
    found = (path for path in output.rglob("*") if path.is_file())
    return {str(path.relative_to(output)): path.read_bytes() for path in found}


def differing(made: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Names of files that are not the same, or on one side only."""
    return sorted(name for name in {*made, *expected} if made.get(name) != expected.get(name))


def kill_once(runs: Runs, output: Path, rng: random.Random) -> str:
    """Run, kill; what there was to kill."""
    before, process = shards(output), runs.start(output)
    try:
        if rng.random() < 0.25:
            time.sleep(rng.uniform(0, EARLY_S))
        else:
            wait(lambda: shards(output) > before, process)
            time.sleep(rng.uniform(0, LATE_S))
        status = process.poll()
    finally:
        kill_all(process, output)
    runs.check(status)
    if status is not None:
        return "done before"
    return "no shard added" if shards(output) == before else "shards added"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=ROOT / ".run" / "corpora-kills")
    options = parser.parse_args()
    folder = options.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    corpus(folder / "docstrings.parquet", TEXTS)
    parts = Parts(RESULT, "benchmarks.corpora.kills", TEXTS)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        runs = Runs(folder / "docstrings.parquet", Path(work))
        outputs = measure(runs, folder, options, parts)
    sys.exit(1 if any(each["differing_files"] for each in outputs) else 0)


def measure(runs: Runs, folder: Path, options: argparse.Namespace, parts: Parts) -> list[dict[str, Any]]:
    """Outputs with so many kills together; what is known of them is kept after each."""
    rng = random.Random(options.seed)
    began = time.perf_counter()
    runs.finish(folder / "whole")
    expected = files(folder / "whole")
    outputs: list[dict[str, Any]] = []
    while (left := options.kills - sum(each["kills"] for each in outputs)) > 0:
        outputs.append(one_output(runs, folder / f"output-{len(outputs)}", rng, left, expected))
        minutes = round((time.perf_counter() - began) / 60, 1)
        done = {"shards": -(-TEXTS // SHARD_ROWS), "kills": sum(each["kills"] for each in outputs)}
        parts.add(f"seed-{options.seed}", {**done, "outputs": outputs, "minutes": minutes})
    return outputs


def one_output(runs: Runs, output: Path, rng: random.Random, kills: int, expected: dict[str, bytes]) -> dict[str, Any]:
    """One output, killed until it is done or has been killed so often, and then finished."""
    found: dict[str, int] = {}
    while sum(found.values()) < kills and "done before" not in found:
        outcome = kill_once(runs, output, rng)
        found[outcome] = found.get(outcome, 0) + 1
        print(output.name, found, shards(output), flush=True)
    runs.finish(output)
    different = differing(files(output), expected)
    return {"kills": sum(found.values()) - found.get("done before", 0), "outcomes": found, "differing_files": different}


if __name__ == "__main__":
    main()
