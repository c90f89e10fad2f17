"""`conch bench`: measures throughput and latency of a served embedding model, or a profile for `conch plan --rate`."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from conch.console import facts, fail, stderr, stdout, steps
from conch.load.texts import Lengths, synthetic_texts
from conch.options import TEXTS, AsJson, named_options, refuse
from conch.texts import read_texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conch.capacity.profile import Profile
    from conch.load.closed_loop import Load
    from conch.load.target import Target

WARM_UP_S = 1.0


def bench(
    context: typer.Context,
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Triton's HOST:PORT for gRPC, or http://HOST:PORT of a gateway.")
    ] = "http://127.0.0.1:8080",
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Embedding model. [default: the first by name]")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=4096, help="Number of concurrent clients.")] = 32,
    batch: Annotated[int, typer.Option(min=1, max=2048, help="Texts in one request.")] = 1,
    lengths: Annotated[
        str,
        typer.Option(
            metavar="LENGTHS",
            help="Tokens of each text, where --texts gives none: mixed (log-normal, median 40), a number, or a range "
            "such as 8-256.",
        ),
    ] = "mixed",
    texts: Annotated[Path | None, TEXTS] = None,
    duration: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds for which requests are sent.")] = 10.0,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Measure calls of many lengths instead, alone and under load, and write their costs to this file, for "
            "`conch plan --rate`. Takes one to two minutes; nothing else should use the servers.",
        ),
    ] = None,
    triton_url: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="With --profile and a gateway: the gRPC address of its Triton.")
    ] = "127.0.0.1:8001",
    as_json: AsJson = False,
) -> None:
    """Put load on a served model and print texts and tokens per second, and latencies.

    CONCH_API_KEY is the key of a gateway that takes one.
    """
    given = named_options(context)
    if profile is not None:
        _check_folder(profile)
        others = given.keys() - {"url", "model", "profile", "triton_url"}
        refuse(given, others, "does not go with --profile, which measures loads of its own")
        _write_profile(profile, url, model, triton_url)
        return
    refuse(given, {"triton_url"}, "is for --profile; to bench a Triton, give its HOST:PORT as the argument")
    if texts is not None:
        refuse(given, {"lengths"}, "does not go with --texts, whose texts have lengths of their own")
    measured = _measured(url, model, _batches(texts, lengths, batch), concurrency, duration)
    report = {"concurrency": concurrency, "batch": batch, **measured}
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        stdout.print(facts(f"{report['model']} at {report['url']}", _rows(report)))
    if report["errors"]:
        raise typer.Exit(1)


def _batches(path: Path | None, lengths: str, size: int) -> list[list[str]]:
    """Return the texts of each request: those of a file or a folder, or synthetic ones of these lengths."""
    try:
        synthetic = Lengths.parse(lengths)
    except ValueError as error:
        raise typer.BadParameter(f"--lengths {error}") from error
    try:
        texts = synthetic_texts(synthetic) if path is None else read_texts(path)
    except ValueError as error:
        fail(str(error))
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def _measured(url: str, model: str | None, batches: list[list[str]], clients: int, duration_s: float) -> dict[str, Any]:
    """Return what the load measured, for JSON."""
    from conch.load.target import BenchError, target_of  # noqa: PLC0415

    async def measure() -> dict[str, Any]:
        async with target_of(url, model, batches, clients, os.environ.get("CONCH_API_KEY")) as target:
            return {"url": target.url, "model": target.model, **(await _load(target, clients, duration_s)).summary()}

    try:
        return asyncio.run(measure())
    except (BenchError, ValueError, OSError) as error:
        fail(str(error))


def _check_folder(file: Path) -> None:
    """Fail before time is spent on what could not be written."""
    if not file.parent.is_dir():
        fail(f"{file.parent} is no folder; create it, or name another file")


def _write_profile(path: Path, url: str, model: str | None, triton_url: str) -> None:
    """Measure a profile, write it, and print its costs."""
    from conch.capacity.measuring import measured  # noqa: PLC0415
    from conch.load.target import BenchError  # noqa: PLC0415

    gateway = url if url.startswith(("http://", "https://")) else None
    try:
        with steps("connecting") as progress:
            key = os.environ.get("CONCH_API_KEY")
            profile = asyncio.run(measured(triton_url if gateway else url, gateway, model, progress, key))
    except (BenchError, ValueError, OSError) as error:
        fail(str(error))
    try:
        profile.write(path)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}; name another file")
    stdout.print(facts(f"{profile.model} at {url}", _costs(profile)))
    stderr.print(f"{path}: now conch plan --rate 200/s --profile {path}", soft_wrap=True, highlight=False)


def _costs(profile: Profile) -> Iterator[tuple[str, str]]:
    engine, gateway, off = profile.engine, profile.gateway, profile.about.get("fit_off_by", 0)
    yield "instances", f"{engine.instances}, of up to {engine.max_rows} texts a run"
    yield "a run", f"{1e3 * engine.fixed_s:.2f} ms, {1e6 * engine.token_s:.1f} µs a token, fits to {off:.0%}"
    yield "a call", f"{1e3 * engine.call_s:.2f} ms beside its run"
    for call in profile.calls:
        texts = call.texts
        if call.clients == 1:
            yield texts, f"alone {call.latency_ms['p50']:.1f} ms"
        elif call.clients <= engine.instances:
            yield texts, f"{call.clients} at once {call.latency_ms['p50']:.1f} ms"
        else:
            yield texts, f"under load {call.tokens_per_s:,.0f} tokens/s"
    if gateway is not None:
        yield "gateway", f"{1e3 * (gateway.request_s + gateway.call_s):.2f} ms of a core for a lone short text"


async def _load(target: Target, clients: int, duration_s: float) -> Load:
    """Measure after a warm-up, and show how fast it is meanwhile."""
    from conch.load.closed_loop import closed_loop  # noqa: PLC0415

    await closed_loop(target.send, clients=clients, seconds=min(WARM_UP_S, duration_s))
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(target.model, total=duration_s)

        def show(so_far: Load) -> None:
            rate = f"{so_far.texts_per_s:,.0f} texts/s"
            progress.update(task, completed=min(so_far.seconds, duration_s), description=rate)

        return await closed_loop(target.send, clients=clients, seconds=duration_s, on_answer=show)


def _rows(report: dict[str, Any]) -> Iterator[tuple[str, str | Text]]:
    yield "load", f"{report['concurrency']} clients, {report['batch']} text(s) a request, {report['seconds']:.1f} s"
    yield "texts/s", f"{report['texts_per_s']:,.1f}"
    yield "tokens/s", f"{report['tokens_per_s']:,.0f}"
    yield "tokens a text", f"{report['tokens'] / report['texts']:.1f}" if report["texts"] else "-"
    for name, value in report["latency_ms"].items():
        yield f"{name} ms", f"{value:.1f}" if value is not None else "-"
    failed = sum(report["errors"].values())
    yield "errors", Text(str(failed), "red" if failed else "")
    for message, count in list(report["errors"].items())[:3]:
        yield "", f"{count} x {message}"
