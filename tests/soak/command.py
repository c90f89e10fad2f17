"""`python -m tests.soak`: the deployment of README under load and faults, with every answer checked.

    python -m tests.soak [--minutes 30] [--per-second 75] [--every 20] [--faults NAME,NAME] [--result FILE]

It serves a copy of the default models and small seeded ones with `conch serve`, asks every surface on a schedule,
lets a fault happen every 20 s, and writes what it saw. Ctrl-C ends it early and in order. The exit status is 1 if a
bound is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from rich.console import Console
from rich.live import Live
from rich.table import Table

from benchmarks.machine import measured_by
from tests.soak.conductor import CALM_S, Plan, Run
from tests.soak.faults import FAULTS, named, schedule
from tests.soak.models import Models
from tests.soak.outcomes import CLEAN, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "soak.json"
REFRESH_S = 0.5
STOPPED = 130  # as a shell says of a program that SIGINT has ended
console = Console(stderr=True)


def main() -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the load lasts")
    parser.add_argument("--per-second", type=float, default=75.0, help="questions a second")
    parser.add_argument("--every", type=float, default=20.0, help="seconds from one fault to the next")
    parser.add_argument(
        "--faults", help="names of the faults, divided by commas; otherwise all, in an order by the seed"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULT, help="where the result is written")
    parser.add_argument("--folder", type=Path, help="new folder for logs and models, kept; otherwise a temporary one")
    parser.add_argument("--models", type=Path, help="folder with what `models.make` has made; otherwise it is made")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = os.environ["ORT_DISABLE_TELEMETRY"] = os.environ["OMP_NUM_THREADS"] = "1"
    seconds = 60 * arguments.minutes
    count = max(0, int((seconds - CALM_S) // arguments.every))
    faults = named(arguments.faults.split(",")) if arguments.faults else schedule(arguments.seed, count)
    plan = Plan(seconds, arguments.per_second, arguments.seed, faults, arguments.every)
    with _folder(arguments.folder) as folder:
        seen = uvloop.run(_watched(plan, folder, arguments.models and Models.below(arguments.models)))
    if seen is None:
        console.print("stopped before anything was asked")
        return STOPPED
    result = {
        **measured_by(_command(arguments)),
        "questions_per_s": arguments.per_second,
        "kinds": {fault.name: {"what": fault.what, "recovers": fault.recovers} for fault in FAULTS},
        **seen,
    }
    arguments.result.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(_summary(seen))
    return int(bool(seen["broken_bounds"]))


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True)
        yield kept.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        yield Path(folder)


async def _watched(plan: Plan, folder: Path, made: Models | None) -> dict[str, Any] | None:
    """Run with a display; return what was seen, or None when a signal came before anything was asked."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    run = Run(plan, folder, stop, made)
    with Live(console=console, auto_refresh=False) as live:
        running = asyncio.create_task(run())
        helping = [asyncio.create_task(_show(live, run)), asyncio.create_task(stop.wait())]
        try:
            await asyncio.wait([running, helping[1]], return_when=asyncio.FIRST_COMPLETED)
            if not running.done() and not run.asks:
                running.cancel()
            return await running
        except asyncio.CancelledError:
            return None
        finally:
            for task in helping:
                task.cancel()
            await asyncio.gather(*helping, return_exceptions=True)


async def _show(live: Live, run: Run) -> None:
    """Keep the display up to date; where there is no terminal, it is printed once at the end."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        record = run.record
        table = Table(title="soak", title_justify="left", show_header=False)
        table.add_row("time", f"{loop.time() - began:.0f} s of {run.plan.seconds:.0f} s, and the preparations")
        table.add_row("now", run.phase)
        table.add_row("right answers", f"{record.rights():,} (of the seconds that are over)")
        table.add_row("refused in order", str(record.count(*CLEAN)))
        table.add_row("disconnected", str(record.count(Kind.DISCONNECTED)))
        table.add_row("wrong, hung, unclean", str(record.count(Kind.WRONG, Kind.HUNG, Kind.UNCLEAN)))
        table.add_row("memory", f"{record.memory_mb[-1][1]:.0f} MB" if record.memory_mb else "")
        live.update(table, refresh=True)
        await asyncio.sleep(REFRESH_S)


def _summary(seen: dict[str, Any]) -> str:
    told = [f"{seen['answers']:,} right answers in {seen['seconds']:.0f} s; others: {seen['others'] or 'none'}"]
    told += [f"broken: {bound}" for bound in seen["broken_bounds"]] or ["all bounds hold"]
    return "\n".join(told)


def _command(arguments: argparse.Namespace) -> str:
    given: Sequence[str] = [
        f"--minutes {arguments.minutes:g}",
        f"--per-second {arguments.per_second:g}",
        f"--every {arguments.every:g}",
        f"--seed {arguments.seed}",
        *([f"--faults '{arguments.faults}'"] if arguments.faults else []),
    ]
    return f"python -m tests.soak {' '.join(given)}"
