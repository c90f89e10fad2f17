"""`conch bench`: throughput and latency of a served embedding model."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path  # noqa: TC003 - typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from conch.load.texts import Lengths, file_texts, synthetic_texts

if TYPE_CHECKING:
    from conch.load.closed_loop import Load
    from conch.load.report import Report
    from conch.load.target import Target

console = Console()
errors = Console(stderr=True)
WARM_UP_S = 1.0


def bench(
    url: Annotated[
        str, typer.Argument(help="Triton's HOST:PORT for gRPC, or http://HOST:PORT of a gateway.")
    ] = "http://127.0.0.1:8080",
    model: Annotated[str | None, typer.Option(help="Embedding model.  [default: the first by name]")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=4096, help="Number of concurrent clients.")] = 32,
    batch: Annotated[int, typer.Option(min=1, max=2048, help="Texts in one request.")] = 1,
    lengths: Annotated[
        str,
        typer.Option(help="Tokens of each text: mixed (log-normal, median 40), a number, or a range such as 8-256."),
    ] = "mixed",
    texts: Annotated[Path | None, typer.Option(help="File with a text in every line, instead of --lengths.")] = None,
    duration: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds for which requests are sent.")] = 10.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")] = None,
) -> None:
    """Put load on a served model and print texts and tokens per second, and latencies."""
    from conch.load.target import BenchError, target_of  # noqa: PLC0415

    try:
        chosen = file_texts(texts) if texts else synthetic_texts(Lengths.parse(lengths))
        report = asyncio.run(_bench(target_of(url), model, chosen, (concurrency, batch), duration))
    except (BenchError, ValueError, OSError) as error:
        errors.print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    console.print(_table(report))
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    if report.errors:
        raise typer.Exit(1)


async def _bench(
    target: Target, model: str | None, texts: list[str], load: tuple[int, int], duration_s: float
) -> Report:
    from conch.load.closed_loop import closed_loop  # noqa: PLC0415
    from conch.load.report import report_of  # noqa: PLC0415

    clients, batch = load
    batches = [texts[start : start + batch] for start in range(0, len(texts), batch)]
    async with target:
        name = await target.prepare(model, batches, clients)
        await closed_loop(target.send, clients=clients, seconds=min(WARM_UP_S, duration_s))
        with Progress(
            TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=errors, transient=True
        ) as progress:
            task = progress.add_task(name, total=duration_s)

            def show(so_far: Load) -> None:
                progress.update(
                    task, completed=min(so_far.seconds, duration_s), description=f"{so_far.texts_per_s:,.0f} texts/s"
                )

            done = await closed_loop(target.send, clients=clients, seconds=duration_s, on_answer=show)
    return report_of(done, url=target.url, model=name, concurrency=clients, batch=batch)


def _table(report: Report) -> Table:
    table = Table(title=f"{report.model} at {report.url}", title_justify="left", show_header=False)
    table.add_row("load", f"{report.concurrency} clients, {report.batch} text(s) a request, {report.seconds:.1f} s")
    table.add_row("texts/s", f"{report.texts_per_s:,.1f}")
    table.add_row("tokens/s", f"{report.tokens_per_s:,.0f}")
    table.add_row("tokens a text", f"{report.tokens / report.texts:.1f}" if report.texts else "-")
    for name, value in report.latency_ms.items():
        table.add_row(f"{name} ms", f"{value:.1f}" if value is not None else "-")
    failed = sum(report.errors.values())
    table.add_row("errors", f"[red]{failed}[/]" if failed else "0")
    for message, count in list(report.errors.items())[:3]:
        table.add_row("", f"{count} x {message}")
    return table
