"""Measures conch and its peers side by side and writes one result.

    python benchmarks/run.py                     everything, three rounds, about 17 minutes on two cores
    python benchmarks/run.py --quick             one short round, to see whether everything works
    python benchmarks/run.py --systems triton infinity --workloads real

Every round measures every system once, one after another, so that a noisy minute hits all alike.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import machine, results, venvs, workloads
from benchmarks.models import prepare
from benchmarks.session import Session
from benchmarks.studies import studies
from benchmarks.systems import SYSTEMS

WORK = machine.ROOT / ".run" / "benchmarks"
PEERS = ("onnxruntime", "openvino", "sentence-transformers", "infinity")


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of short measurements, kept out of results/")
    parser.add_argument("--rounds", type=int, help="default 3, quick 1")
    parser.add_argument("--seconds", type=float, help="of one measurement; default 4, quick 1")
    parser.add_argument("--systems", nargs="+", choices=[system.name for system in SYSTEMS], metavar="NAME")
    parser.add_argument("--workloads", nargs="+", choices=workloads.NAMES, metavar="NAME")
    parser.add_argument("--no-studies", action="store_true", help="leave sizes and fidelity out")
    parser.add_argument("--output", type=Path, help="default: results/DATE.json; quick and partial runs: .run/")
    chosen = parser.parse_args(arguments)
    chosen.partial = bool(chosen.quick or chosen.systems or chosen.workloads or chosen.no_studies)
    chosen.rounds = chosen.rounds or (1 if chosen.quick else 3)
    chosen.seconds = chosen.seconds or (1.0 if chosen.quick else 4.0)
    return chosen


def run(chosen: argparse.Namespace) -> Path:
    """Measure and write the result; return its path."""
    began = datetime.now(timezone.utc)
    WORK.mkdir(parents=True, exist_ok=True)
    where = machine.machine()
    models = prepare(WORK)
    paths = workloads.write(WORK, models.tokenizer())
    systems = [system for system in SYSTEMS if not chosen.systems or system.name in chosen.systems]
    with Session(models, paths, systems, WORK) as session:
        session.measure(chosen.rounds, chosen.seconds, chosen.workloads)
        measured = session.studies()
    if not chosen.no_studies:
        measured |= studies(models)
    result: results.Result = {
        "schema": results.SCHEMA,
        "date": began.isoformat(timespec="seconds"),
        "command": shlex.join(["python", "benchmarks/run.py", *sys.argv[1:]]),
        "git": machine.revision(),
        "machine": where,
        "versions": {"conch": machine.versions()} | {peer: venvs.versions(peer) for peer in PEERS},
        "seconds_per_measurement": chosen.seconds,
        "workloads": session.described,
        "systems": session.infos,
        "rounds": session.records,
        "studies": measured,
    }
    name = f"{began:%Y-%m-%d-%H%M}.json"
    path: Path = chosen.output or (WORK if chosen.partial else results.FOLDER) / name
    results.save(result, path)
    return path


if __name__ == "__main__":
    start = time.perf_counter()
    print(f"{run(options())} after {time.perf_counter() - start:.0f} s")
