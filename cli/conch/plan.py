"""`conch plan`: the memory of a model, item by item, before it is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from conch.console import refused, stdout, steps
from conch.options import (
    DEFAULT_MODEL,
    DEFAULT_REPOSITORY,
    Aim,
    MaxLength,
    Model,
    Repository,
    Revision,
    Task,
    size,
)

if TYPE_CHECKING:
    from conch_export import Capacity, PlannedHead


def plan(
    model: Model = DEFAULT_MODEL,
    repository: Repository = DEFAULT_REPOSITORY,
    revision: Revision = None,
    max_length: MaxLength = None,
    task: Task = None,
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
) -> None:
    """Predict how much memory a model takes when it is served on a CPU."""
    import conch_export as ce  # noqa: PLC0415

    options = ce.Options(
        reference=model,
        repository=repository,
        revision=revision,
        precision=ce.Precision(precision),
        plan=ce.plan(cores or ce.usable_cores(), ce.Aim(aim)),
        overrides=ce.Overrides(max_length=max_length, task=task and ce.Task(task)),
    )
    with refused(), steps("reading the checkpoint") as progress:
        planned = ce.capacity(options, rows, progress)
    stdout.print(_table(model, planned))
    if memory is not None:
        stdout.print(_advice(planned, memory), soft_wrap=True, highlight=False)
    if measure:
        with refused(), steps("running the graph"):
            taken = planned.measure()
        off = planned.budget.total / taken - 1
        stdout.print(f"measured: {_megabytes(taken)} an instance; the plan is {off:+.0%} off", highlight=False)
    if memory is not None and planned.total > memory:
        raise typer.Exit(1)


def _table(model: str, planned: Capacity) -> Table:
    budget, length = planned.budget, planned.length
    title = f"{model}, {planned.precision.value}, {planned.rows} x {length} tokens"
    table = Table("part", "MB", "", title=title, title_justify="left")
    table.columns[1].justify = "right"
    whole = planned.footprint.whole_scores(length) / 1e6
    for part, count, why in (
        ("process", budget.runtime, "Python and onnxruntime"),
        ("packed weights", budget.packed, "of matrix products, in the processor's order"),
        ("activations", budget.activations, f"{planned.footprint.widest} numbers a token"),
        ("attention scores", budget.scores, f"in tiles; {whole:,.0f} MB if all of a row's were held at once"),
        (
            "outputs",
            budget.outputs,
            f"{planned.footprint.hidden} numbers a token of every further row",
        ),
    ):
        table.add_row(part, f"{count / 1e6:,.0f}", why)
    table.add_section()
    table.add_row("an instance", f"{budget.total / 1e6:,.0f}", "")
    for head in planned.heads:
        table.add_row(*_head(head, planned))
    shared = budget.weights + sum(head.footprint.weights for head in planned.heads)
    table.add_row("weights", f"{shared / 1e6:,.0f}", "mapped from the disk, shared by all instances")
    table.add_row("beside", f"{planned.beside / 1e6:,.0f}", "Triton and tokenizer")
    table.add_row("in all", f"{planned.total / 1e6:,.0f}", f"of {planned.instances} instances at their peak")
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
