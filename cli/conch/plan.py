"""`conch plan`: what a model takes, item by item, before it is exported; or replicas for a load, by a profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from conch.browser.plan import plan_web
from conch.capacity.need import duration, rate
from conch.console import fail, refused, stderr, stdout, steps
from conch.options import (
    DEFAULT_MODEL,
    DEFAULT_REPOSITORY,
    Adapter,
    Aim,
    AsJson,
    Label,
    MaxLength,
    Model,
    Repository,
    Revision,
    Task,
    named_options,
    size,
)

if TYPE_CHECKING:
    from conch_export import Capacity, PlannedHead

_OF_A_LOAD = "Replicas for a load"
_LOAD = {"per_s", "lengths", "p99", "profile"}
_OF_A_SERVER = {"cores", "aim", "rows", "measure"}


def plan(
    context: typer.Context,
    model: Model = DEFAULT_MODEL,
    repository: Repository = DEFAULT_REPOSITORY,
    revision: Revision = None,
    adapter: Adapter = None,
    max_length: MaxLength = None,
    task: Task = None,
    label: Label = None,
    memory: Annotated[
        int | None,
        typer.Option(
            parser=size,
            metavar="SIZE",
            help="Also print the longest text that fits into this much memory, such as 2GB.",
        ),
    ] = None,
    precision: Annotated[Literal["fp32", "int8"], typer.Option(help="Number format of the matrix products.")] = "int8",
    cores: Annotated[
        int | None, typer.Option(min=1, help="Cores to plan for. [default: those of this machine]")
    ] = None,
    aim: Aim = "throughput",
    rows: Annotated[int, typer.Option(min=1, help="Texts of that length in one run; Triton merges up to 8.")] = 1,
    measure: Annotated[
        bool, typer.Option("--measure", help="Run the graph once in a process of its own and print its peak memory.")
    ] = False,
    web: Annotated[
        bool,
        typer.Option(
            "--web", help="Print instead what a page takes that computes it in the browser, by length of text."
        ),
    ] = False,
    per_s: Annotated[
        float | None,
        typer.Option(
            "--rate",
            parser=rate,
            metavar="RATE",
            rich_help_panel=_OF_A_LOAD,
            help="Print instead how many replicas answer so many texts, such as 200/s, 12000/min.",
        ),
    ] = None,
    lengths: Annotated[
        str,
        typer.Option(
            metavar="FILE|LENGTHS",
            rich_help_panel=_OF_A_LOAD,
            help="Tokens of each text: a file with a number in every line, mixed (log-normal, median 40), a number, or "
            "a range such as 8-256.",
        ),
    ] = "mixed",
    p99: Annotated[
        float,
        typer.Option(
            parser=duration,
            metavar="TIME",
            rich_help_panel=_OF_A_LOAD,
            help="Time in which 99 % are to be answered, such as 100ms, 0.5s.",
        ),
    ] = "100ms",  # type: ignore[assignment] # goes through the parser
    profile: Annotated[
        Path | None,
        typer.Option(rich_help_panel=_OF_A_LOAD, help="Measured on one replica by `conch bench --profile`."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Predict what a model takes: to be exported, and when it is served on a CPU. No weight is read.

    With --web: what a page takes that computes it in the browser. With --rate: how many replicas a load takes, by a
    measured profile and a simulation.
    """
    given = named_options(context)
    if per_s is not None:
        _check_only(given, {*_LOAD, "model", "as_json"})
        try:
            from conch.capacity.command import plan_load  # noqa: PLC0415
        except ModuleNotFoundError as error:
            fail(f"{error}; a simulation runs the gateway's own code: pip install 'conch[gateway]'")
        plan_load(per_s, lengths, p99, profile, model=model if "model" in given else None, as_json=as_json)
        return
    for name in _LOAD & given.keys():
        fail(f"{given[name]} is for a load: say how large it is, as in --rate 200/s")
    import conch_export as ce  # noqa: PLC0415

    options = ce.Options(
        reference=model,
        repository=repository,
        revision=revision,
        adapter=adapter,
        precision=ce.Precision(precision),
        plan=ce.plan(cores or ce.usable_cores(), ce.Aim(aim)),
        overrides=ce.Overrides(max_length=max_length, task=task and ce.Task(task), label=label),
    )
    if web:
        for name in _OF_A_SERVER & given.keys():
            fail(f"{given[name]} does not go with --web: it is about servers")
        plan_web(options, memory, as_json=as_json)
        return
    with refused(), steps("reading the checkpoint") as progress:
        planned = ce.capacity(options, rows, progress)
    if as_json:
        typer.echo(json.dumps(planned.as_dict(), indent=2))
    else:
        _print(model, planned, memory)
    if measure:
        with refused(), steps("running the graph"):
            taken = planned.measure()
        off = planned.budget.total / taken - 1
        stderr.print(f"measured: {_megabytes(taken)} an instance; the plan is {off:+.0%} off", highlight=False)
    if memory is not None and planned.total > memory:
        raise typer.Exit(1)


def _check_only(given: dict[str, str], allowed: set[str]) -> None:
    for name in given.keys() - allowed:
        fail(f"{given[name]} does not go with --rate: what a replica has is what its profile was measured with")


def _print(model: str, planned: Capacity, memory: int | None) -> None:
    stdout.print(_service(model, planned))
    stdout.print(_exported(planned))
    if memory is not None:
        stdout.print(_advice(planned, memory), soft_wrap=True, highlight=False)
    if planned.unsaid:
        stderr.print(f"an export needs to know more: {planned.unsaid}", soft_wrap=True, highlight=False)


def _service(model: str, planned: Capacity) -> Table:
    budget, length, footprint = planned.budget, planned.length, planned.footprint
    title = f"{model}, {planned.precision.value}, {planned.rows} x {length} tokens"
    table = Table("in service", "MB", "", title=title, title_justify="left")
    table.columns[1].justify = "right"
    whole = footprint.whole_scores(length) / 1e6
    shared = "once for all instances, which map one copy" if planned.shares_weights else "in each instance"
    for part, count, why in (
        ("process", budget.runtime, "Python and onnxruntime"),
        ("weights", budget.weights, f"of matrix products, {shared}"),
        ("activations", budget.activations, f"{footprint.widest} numbers a token"),
        ("attention scores", budget.scores, f"in tiles; {whole:,.0f} MB if all of a row's were held at once"),
        ("outputs", budget.outputs, f"{footprint.hidden} numbers a token of every further row"),
    ):
        table.add_row(part, f"{count / 1e6:,.0f}", why)
    table.add_section()
    tables = f"; mapped, as far as texts use them: {_megabytes(footprint.tables)} of embeddings"
    table.add_row("an instance", f"{budget.total / 1e6:,.0f}", f"{_megabytes(budget.own)} without weights{tables}")
    table.add_row("all instances", f"{planned.encoders / 1e6:,.0f}", f"{planned.instances} of the encoder")
    for head in planned.heads:
        table.add_row(*_head(head, planned))
    table.add_row("Triton", f"{planned.beside / 1e6:,.0f}", "and the process that serves tokenizer.json")
    table.add_row("gateway", f"{planned.gateway / 1e6:,.0f}", "with the tokenizer; models with equal ones share it")
    table.add_row("in all", f"{planned.total / 1e6:,.0f}", f"of {planned.instances} instances at their peak")
    return table


def _exported(planned: Capacity) -> Table:
    table = Table("export", "MB", "")
    table.columns[1].justify = "right"
    for precision, export in planned.exports.items():
        mapped = f"at its peak, and {_megabytes(export.mapped)} of mapped files, which the system can drop"
        table.add_row(f"memory, {precision}", f"{export.needed / 1e6:,.0f}", mapped)
    for precision, count in planned.disk.items():
        table.add_row(f"disk, {precision}", f"{count / 1e6:,.0f}", "in the model repository")
    return table


def _head(head: PlannedHead, planned: Capacity) -> tuple[str, str, str]:
    budget = head.footprint.budget(planned.length, planned.rows)
    working = budget.activations + budget.scores + budget.outputs
    parts = f"process {_megabytes(budget.runtime)}, weights {_megabytes(budget.weights)}, working {_megabytes(working)}"
    tile = f", {_megabytes(budget.scores)} of it 64 tokens' logits" if budget.scores else ""
    count = f"; {head.instances} of it" if head.instances > 1 else ""
    return head.name, f"{budget.total / 1e6:,.0f}", f"{parts}{tile}{count}"


def _advice(planned: Capacity, memory: int) -> str:
    fitting = planned.longest(memory)
    if not fitting:
        fewer = "fewer --cores, --precision int8 or more memory"
        return f"{_megabytes(memory)} are too little for {planned.instances} instances at any length: {fewer}"
    most = " (all that it has positions for)" if fitting == planned.footprint.max_length else ""
    verdict = "fits" if planned.total <= memory else f"does not fit: choose --max-length {fitting} or fewer --cores"
    return f"{_megabytes(memory)}: up to {fitting} tokens{most}; {planned.length} {verdict}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
