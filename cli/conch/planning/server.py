"""`conch plan`: the memory of a model on a server, item by item, and of its export."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from conch.console import refused, stderr, stdout, steps

if TYPE_CHECKING:
    from conch_export import Capacity, Options, PlannedHead


def plan_server(options: Options, rows: int, memory: int | None, *, measure: bool, as_json: bool) -> None:
    """Print the plan; status 1 if it takes more than the given memory.

    Args:
        options: the model, as for an export.
        rows: texts of the greatest length in one run.
        memory: bytes that there are; None for any number.
        measure: whether to run the graph as well, and to print how far the plan is off.
        as_json: whether to print JSON.
    """
    from conch_export import capacity  # noqa: PLC0415

    with refused(), steps("reading the checkpoint") as progress:
        planned = capacity(options, rows, progress)
    if as_json:
        typer.echo(json.dumps(planned.as_dict(), indent=2))
    else:
        _print(options.reference, planned)
    if memory is not None:
        stderr.print(_advice(planned, memory), soft_wrap=True, highlight=False)
    if measure:
        _measure(planned)
    if memory is not None and planned.total > memory:
        raise typer.Exit(1)


def _measure(planned: Capacity) -> None:
    with refused(), steps("running the graph"):
        taken = planned.measure()
    off = planned.budget.total / taken - 1
    stderr.print(f"measured: {_megabytes(taken)} an instance; the plan is {off:+.0%} off", highlight=False)


def _print(model: str, planned: Capacity) -> None:
    stdout.print(_service(model, planned))
    stdout.print(_exported(planned))
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
    fitting, several = planned.longest(memory), planned.instances > 1
    if not fitting:
        int8 = planned.precision.value == "int8"
        smaller = ["a smaller model", *([] if int8 else ["--precision int8"]), *(["fewer --cores"] if several else [])]
        count = f"{planned.instances} instance{'s' if several else ''}"
        how = f"give more memory, or take {' or '.join(smaller)}"
        return f"{_megabytes(memory)} are too little for {count} at any length: {how}"
    most = " (all that it has positions for)" if fitting == planned.footprint.max_length else ""
    shorter = f"choose --max-length {fitting}{' or fewer --cores' if several else ''}"
    verdict = "fits" if planned.total <= memory else f"does not fit: {shorter}"
    return f"{_megabytes(memory)}: up to {fitting} tokens{most}; {planned.length} {verdict}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
