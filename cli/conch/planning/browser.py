"""`conch plan --web`: what a page takes that computes a model, item by item, for each length that has a name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from conch.console import refused, stderr, stdout, steps
from conch.options import LENGTHS

if TYPE_CHECKING:
    from conch_export import BrowserPlan, Options

_ROWS = {
    "page": "of the browser, before it loads anything",
    "module": "onnxruntime-web and conch-web",
    "tokenizer": "its words as JavaScript's objects",
    "files": "as they were fetched, until the browser collects its garbage",
    "weights": "of the graphs, as onnxruntime keeps them",
    "activations": "of a text, or of shorter ones that are computed together",
    "scores": "of attention, in tiles",
    "outputs": "a vector for each token, between the graphs",
}


def plan_page(options: Options, memory: int | None, *, as_json: bool) -> None:
    """Print the plan; status 1 where no length that was asked for fits the memory.

    Args:
        options: the model, as for an export.
        memory: bytes that the page may take; None for any.
        as_json: whether to print JSON.
    """
    from conch_export import browser_plan  # noqa: PLC0415

    with refused(), steps("reading the checkpoint") as progress:
        planned = browser_plan(options, progress)
    lengths = _lengths(planned.length)
    if as_json:
        typer.echo(json.dumps({name: planned.as_dict(length) for name, length in lengths.items()}, indent=2))
    else:
        stdout.print(_table(options, planned, lengths))
    if memory is not None:
        longest = planned.longest(memory)
        stderr.print(_advice(planned, memory, longest), soft_wrap=True, highlight=False)
        if not longest:
            raise typer.Exit(1)


def _lengths(longest: int) -> dict[str, int]:
    """The named lengths that the model reads, and all of its own where that is another."""
    named = {name: length for name, length in LENGTHS.items() if length <= longest}
    return named if longest in named.values() else {**named, "all": longest}


def _table(options: Options, planned: BrowserPlan, lengths: dict[str, int]) -> Table:
    title = f"{options.reference}, {options.precision.value}, in the browser"
    table = Table("MB", *(f"{name}\n{length:,}" for name, length in lengths.items()), "", title=title)
    table.title_justify = "left"
    for column in table.columns[1:-1]:
        column.justify = "right"
    budgets = [planned.budget(length) for length in lengths.values()]
    for name, why in _ROWS.items():
        table.add_row(name, *(f"{getattr(budget, name) / 1e6:,.0f}" for budget in budgets), why)
    table.add_section()
    table.add_row("in all", *(f"{budget.total / 1e6:,.0f}" for budget in budgets), "at its peak")
    table.add_row("WebAssembly", *(f"{budget.heap / 1e6:,.0f}" for budget in budgets), "of it; at most 4,295")
    return table


def _advice(planned: BrowserPlan, memory: int, longest: int) -> str:
    stated = f"{memory / 1e6:,.0f} MB"
    if not longest:
        return f"{stated} are too little for texts of any length: take a smaller model, or --precision int8"
    if longest == planned.length:
        return f"{stated}: texts of all {longest:,} tokens that the model reads"
    return f"{stated}: texts of up to {longest:,} tokens, with load(url, {{maxLength: {longest}}})"
