"""What models of true size take: their export, their memory and their speed, beside their peers; `results/sizes.json`.

    python benchmarks/sizes.py                               every shape that the result lacks: about two hours
    python benchmarks/sizes.py --shapes jina-small e5-base   these, anew if they were measured before
    python benchmarks/sizes.py --peers --seconds 2           a quick look at conch alone, kept out of results/

A shape is the configuration, element type, files and size of tokenizer that a model was published with; its weights
are random. For each: a checkpoint is written, `conch plan` and `conch export` run in fp32 and int8, each in a process
of its own, `conch serve` with two and with eight instances, and what users make of the checkpoint with its peers. The
result is written after every shape, so that the same command goes on after an interruption. Needs up to 25 GB of disk,
and as much memory as the shapes take: what is refused or killed for want of it is a result too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import shutil
import sys
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import venvs
from benchmarks.disturbance import Disturbance
from benchmarks.machine import ROOT, machine, revision, versions
from benchmarks.servers import ServerError
from benchmarks.true_sizes import loads, ours, peers
from benchmarks.true_sizes.ours import FEW, MANY, PRECISIONS, Subject
from benchmarks.true_sizes.processes import StepError, run
from benchmarks.true_sizes.shapes import ALL_PEERS, SHAPES
from benchmarks.workers import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

RESULT = ROOT / "benchmarks" / "results" / "sizes.json"
WORK = ROOT / ".run" / "sizes"
FAILURES = (StepError, ServerError, WorkerError, OSError)
console = Console(stderr=True)


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, metavar="SHAPE", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--seconds", type=float, default=6.0, help="of one measurement")
    some = "only these, or none; kept out of results/"
    parser.add_argument("--peers", nargs="*", choices=ALL_PEERS, default=ALL_PEERS, metavar="PEER", help=some)
    parser.add_argument("--folder", type=Path, default=WORK, help="for checkpoints and models")
    parser.add_argument("--keep", action="store_true", help="leave them there")
    parser.add_argument("--anew", action="store_true", help="forget what was measured before")
    chosen = parser.parse_args(arguments)
    chosen.folder = chosen.folder.resolve()
    chosen.output = RESULT if set(chosen.peers) == set(ALL_PEERS) else chosen.folder / "sizes.json"
    return chosen


def measure(subject: Subject, chosen: Collection[str], on_step: Callable[[str], None]) -> dict[str, Any]:
    """Every measurement of one shape, with the chosen peers."""
    found: dict[str, Any] = {"checkpoint": _written(subject, on_step)}
    for precision in PRECISIONS:
        found[precision] = _ours(subject, precision, on_step)
    found["peers"] = peers.measure(subject, chosen, on_step)
    return found


def _written(subject: Subject, on_step: Callable[[str], None]) -> dict[str, Any]:
    on_step("writing the checkpoint")
    module = ("-m", "benchmarks.true_sizes.checkpoint")
    run([sys.executable, *module, subject.name, str(subject.checkpoint)], subject.folder / "checkpoint.log")
    subject.loads.update(loads.write(subject.folder, subject.shape, subject.checkpoint))
    weights = sum(path.stat().st_size for path in subject.checkpoint.rglob("*.safetensors"))
    tokenizer = (subject.checkpoint / "tokenizer.json").stat().st_size
    return {"weights_mb": weights / 1e6, "dtype": subject.shape.dtype, "tokenizer_mb": tokenizer / 1e6}


def _ours(subject: Subject, precision: str, on_step: Callable[[str], None]) -> dict[str, Any]:
    """conch's steps in this precision; of one that fails the reason is kept, and those that need it are left out."""
    found: dict[str, Any] = {}
    disturbance = Disturbance()

    def step(name: str, what: str, measured: Callable[[], Any]) -> bool:
        on_step(f"{precision}: {what}")
        try:
            found[name] = measured()
        except FAILURES as error:
            found[name] = {"failed": str(error)}
        return "failed" not in found[name]

    for count in (FEW, MANY):
        step(f"plan_{count}", f"plan for {count}", partial(ours.plan, subject, precision, count))
    if step("export", "export", lambda: ours.export(subject, precision)) and subject.shape.is_served:
        step("serve", f"serving with {FEW} instances", lambda: ours.serve(subject, precision))
        step("serve_many", f"serving with {MANY} instances", lambda: ours.serve_many(subject, precision))
    found["others_cores"] = disturbance.cores()
    return found


def main(chosen: argparse.Namespace) -> None:
    """Measure shape after shape, and write the result after each."""
    result = _begun(chosen)
    names = chosen.shapes or [name for name in SHAPES if name not in result["shapes"]]
    minutes = sum(SHAPES[name].minutes for name in names) if chosen.peers else 4 * len(names)
    console.print(f"{len(names)} shapes, about {minutes} minutes on two cores: {', '.join(names) or 'none is left'}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(names))
        for name in names:
            result["shapes"][name] = _shape(name, chosen, partial(_say, progress, bar, name))
            chosen.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            progress.advance(bar)
    console.print(f"written to {chosen.output}")


def _shape(name: str, chosen: argparse.Namespace, on_step: Callable[[str], None]) -> dict[str, Any]:
    folder = chosen.folder / name
    for made in ("models-fp32", "models-int8"):
        shutil.rmtree(folder / made, ignore_errors=True)  # of an earlier run, perhaps by another version
    folder.mkdir(parents=True, exist_ok=True)
    began = datetime.now(timezone.utc)
    subject = Subject(name, SHAPES[name], folder, {}, chosen.seconds)
    found = measure(subject, chosen.peers, on_step)
    if not chosen.keep:
        shutil.rmtree(folder)
    minutes = (datetime.now(timezone.utc) - began).total_seconds() / 60
    shape = subject.shape
    about = {"model": shape.model, "longest": shape.longest, "is_reranker": shape.is_reranker}
    return {
        "date": began.isoformat(timespec="seconds"),
        "minutes": round(minutes, 1),
        "git": revision(),
        **about,
        **found,
    }


def _begun(chosen: argparse.Namespace) -> dict[str, Any]:
    """The result so far, or an empty one."""
    where = machine()
    new = {
        "command": shlex.join(["python", "benchmarks/sizes.py", *sys.argv[1:]]),
        "machine": where,
        "versions": {"conch": versions()} | {peer: venvs.versions(peer) for peer in ALL_PEERS},
        "seconds_per_measurement": chosen.seconds,
        "shapes": {},
    }
    if chosen.anew or not chosen.output.exists():
        return new
    before: dict[str, Any] = json.loads(chosen.output.read_text("utf-8"))
    same = ("cpu", "cores", "memory_gib")
    if [before["machine"][key] for key in same] != [where[key] for key in same]:
        raise SystemExit(f"{chosen.output} was measured on another machine: measure everything --anew")
    return {**new, "shapes": before["shapes"]}


def _say(progress: Progress, bar: TaskID, shape: str, step: str) -> None:
    """Show the step that has begun; where there is no terminal, a line for each."""
    progress.update(bar, description=f"{shape}: {step}")
    if not console.is_terminal:
        console.print(f"{datetime.now():%H:%M:%S} {shape}: {step}", highlight=False)


if __name__ == "__main__":
    parsed = options()
    with contextlib.suppress(BrokenPipeError):
        try:
            main(parsed)
        except KeyboardInterrupt:
            console.print(f"interrupted; what was measured is in {parsed.output}, and the same command goes on")
            sys.exit(130)
