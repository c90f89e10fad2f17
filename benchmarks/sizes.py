"""What models of true size take: their export, their memory and their speed, beside their peers; `results/sizes.json`.

    python benchmarks/sizes.py                               whatever the result lacks: about two hours
    python benchmarks/sizes.py --shapes jina-small e5-base   these shapes, anew if they were measured before
    python benchmarks/sizes.py --parts plan export           these parts of every shape that lacks them

A shape is the configuration, element type, files and size of tokenizer that a model was published with; its weights
are random. For each there are these parts, each in fp32 and in int8:

    plan      `conch plan` for two and for eight instances and texts of 512 tokens, and for the export
    export    `conch export`
    serve     `conch serve` with two and with eight instances
    peers     what users make of the checkpoint with its peers, and conch in turns with them

The result is written after every part, so that the same command goes on after an interruption. All figures of a shape
come from one machine: what another one has measured of it is measured anew here, if parts of it are measured. Needs up
to 25 GB of disk, and as much memory as the shapes take: what is refused or killed for want of it is a result too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
from datetime import datetime, timezone
from functools import partial
from itertools import product
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
    from collections.abc import Callable, Iterator, Mapping, Sequence

RESULT = ROOT / "benchmarks" / "results" / "sizes.json"
WORK = ROOT / ".run" / "sizes"
FAILURES = (StepError, ServerError, WorkerError, OSError)
console = Console(stderr=True)


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, metavar="SHAPE", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help="only these")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), metavar="PRECISION")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one measurement")
    some = "only these, or none; kept out of results/"
    parser.add_argument("--peers", nargs="*", choices=ALL_PEERS, default=ALL_PEERS, metavar="PEER", help=some)
    parser.add_argument("--folder", type=Path, default=WORK, help="for checkpoints and models")
    parser.add_argument("--keep", action="store_true", help="leave them there")
    parser.add_argument("--anew", action="store_true", help="forget what was measured before")
    chosen = parser.parse_args(arguments)
    chosen.folder = chosen.folder.resolve()
    chosen.output = RESULT if set(chosen.peers) == set(ALL_PEERS) else chosen.folder / "sizes.json"
    return chosen


def _plan(subject: Subject, precision: str, _: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    plans = {
        f"plan_{count}": _step(say, f"plan for {count}", partial(ours.plan, subject, precision, count))
        for count in (FEW, MANY)
    }
    longest = partial(ours.plan, subject, precision, FEW, subject.shape.longest)
    return {precision: {**plans, "plan_export": _step(say, "plan for the export", longest)}}


def _export(subject: Subject, precision: str, _: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    shutil.rmtree(subject.repository(precision), ignore_errors=True)
    return {precision: {"export": _step(say, "export", partial(ours.export, subject, precision))}}


def _serve(subject: Subject, precision: str, _: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    if not subject.shape.is_served or not _exported(subject, precision):
        return {}
    few = _step(say, f"serve with {FEW} instances", partial(ours.serve, subject, precision))
    many = _step(say, f"serve with {MANY}", partial(ours.serve_many, subject, precision))
    return {precision: {"serve": few, "serve_many": many}}


def _peers(subject: Subject, precision: str, chosen: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    if subject.shape.peers:
        _exported(subject, precision)
    return {"peers": {precision: peers.measure(subject, precision, chosen.peers, say)}}


PARTS = {"plan": _plan, "export": _export, "serve": _serve, "peers": _peers}


def _step(say: Callable[[str], None], what: str, measured: Callable[[], Any]) -> Any:
    """What was measured, or the reason why it failed."""
    say(what)
    try:
        return measured()
    except FAILURES as error:
        return {"failed": str(error)}


def _exported(subject: Subject, precision: str) -> bool:
    """Whether its model repository is there, made now if an earlier run has removed it."""
    if not subject.repository(precision).exists():
        with contextlib.suppress(StepError):
            ours.export(subject, precision)
    return subject.repository(precision).exists()


def main(chosen: argparse.Namespace) -> None:
    """Measure part after part of shape after shape, and write the result after each."""
    result = _begun(chosen)
    left = {name: parts for name in chosen.shapes or SHAPES if (parts := _left(result, name, chosen))}
    minutes = sum(SHAPES[name].minutes for name in left)
    console.print(f"{len(left)} shapes, up to {minutes} minutes on two cores: {', '.join(left) or 'none is left'}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=sum(map(len, left.values())))
        for name, parts in left.items():
            if _is_of_elsewhere(result["shapes"].setdefault(name, {})):
                result["shapes"][name] = {}
            for found in _measured(name, parts, chosen, partial(_say, progress, bar)):
                _add(result["shapes"][name], found)
                chosen.output.parent.mkdir(parents=True, exist_ok=True)
                chosen.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
                progress.advance(bar)
    console.print(f"written to {chosen.output}")


def _left(result: Mapping[str, Any], name: str, chosen: argparse.Namespace) -> list[tuple[str, str]]:
    """The parts of a shape that are to be measured, each with its precision."""
    before = result["shapes"].get(name, {})
    measured = {} if chosen.shapes else before.get("measured", {})
    both = product(chosen.parts, chosen.precisions)
    left = [(part, precision) for part, precision in both if f"{part} {precision}" not in measured]
    return list(product(PARTS, PRECISIONS)) if left and _is_of_elsewhere(before) else left


def _is_of_elsewhere(shape: Mapping[str, Any]) -> bool:
    """Whether it was measured on another machine."""
    there, here = shape.get("machine"), machine()
    return there is not None and any(there[key] != here[key] for key in ("cpu", "cores", "memory_gib"))


def _measured(
    name: str, parts: Sequence[tuple[str, str]], chosen: argparse.Namespace, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """What each part finds, with the time, the commit and the load of others."""
    subject = _subject(name, chosen, say)
    shape = subject.shape
    about = {"model": shape.model, "longest": shape.longest, "is_reranker": shape.is_reranker, "machine": machine()}
    about["versions"] = {"conch": versions()} | {peer: venvs.versions(peer) for peer in ALL_PEERS}
    for part, precision in parts:
        disturbance, began = Disturbance(), datetime.now(timezone.utc)
        found = PARTS[part](subject, precision, chosen, partial(_say_of, say, f"{name}, {precision}"))
        options = f"--parts {part} --precisions {precision} --seconds {chosen.seconds:g}"
        when = {
            "date": began.isoformat(timespec="seconds"),
            "took_s": round((datetime.now(timezone.utc) - began).total_seconds()),
            "git": revision(),
            "command": f"python benchmarks/sizes.py --shapes {name} {options}",
            "others_cores": disturbance.cores(),
        }
        yield {**about, "checkpoint": ours.checkpoint(subject), "measured": {f"{part} {precision}": when}, **found}
    if not chosen.keep:
        shutil.rmtree(subject.folder)


def _say_of(say: Callable[[str], None], which: str, step: str) -> None:
    say(f"{which}: {step}")


def _subject(name: str, chosen: argparse.Namespace, say: Callable[[str], None]) -> Subject:
    """A shape with its checkpoint and its texts."""
    folder = chosen.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    subject = Subject(name, SHAPES[name], folder, {}, chosen.seconds)
    say(f"{name}: writing the checkpoint")
    module = ("-m", "benchmarks.true_sizes.checkpoint")
    run([sys.executable, *module, name, str(subject.checkpoint)], subject.log("checkpoint"))
    subject.loads.update(loads.write(folder, subject.shape, subject.checkpoint))
    return subject


def _add(into: dict[str, Any], found: Mapping[str, Any]) -> None:
    """Add what was found to what is known of a shape, two levels deep."""
    for key, value in found.items():
        into[key] = into.get(key, {}) | value if isinstance(value, dict) else value


def _begun(chosen: argparse.Namespace) -> dict[str, Any]:
    """The result so far, or an empty one."""
    if chosen.anew or not chosen.output.exists():
        return {"command": "python benchmarks/sizes.py", "shapes": {}}
    before: dict[str, Any] = json.loads(chosen.output.read_text("utf-8"))
    return before


def _say(progress: Progress, bar: TaskID, step: str) -> None:
    """Show the step that has begun; where there is no terminal, a line for each."""
    progress.update(bar, description=step)
    if not console.is_terminal:
        console.print(f"{datetime.now():%H:%M:%S} {step}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    parsed = options()
    with contextlib.suppress(BrokenPipeError):
        try:
            main(parsed)
        except KeyboardInterrupt:
            console.print(f"interrupted; what was measured is in {parsed.output}, and the same command goes on")
            sys.exit(130)
