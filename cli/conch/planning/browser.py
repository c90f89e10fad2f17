"""`conch plan --web`: the memory of a page that computes a model, item by item, for each named length of text."""

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
    "page": "an empty page of the browser",
    "module": "onnxruntime-web and conch-web without a model",
    "tokenizer": "its vocabulary as JavaScript objects",
    "files": "fetched files, until the garbage collector frees them",
    "weights": "weights of the graphs in onnxruntime",
    "activations": "of one text, or of short texts in one run",
    "scores": "of attention, in tiles",
    "outputs": "token vectors between encoder and head",
}


def plan_page(options: Options, memory: int | None, *, as_json: bool) -> None:
    """Print the plan; status 1 if no length fits into the memory.

    Args:
        options: the model, as for an export.
        memory: bytes that the page may take; None for any number.
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
        stderr.print(_advice(options, planned, memory, longest), soft_wrap=True, highlight=False)
        if not longest:
            raise typer.Exit(1)


def _lengths(longest: int) -> dict[str, int]:
    """Return the named lengths within the model's limit, and that limit."""
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


def _advice(options: Options, planned: BrowserPlan, memory: int, longest: int) -> str:
    stated = f"{memory / 1e6:,.0f} MB"
    if not longest:
        or_int8 = "" if options.precision.value == "int8" else ", or --precision int8"
        return f"{stated} are too little for texts of any length: take a smaller model{or_int8}"
    if longest == planned.length:
        return f"{stated}: texts of up to {longest:,} tokens, the limit of the model"
    return f"{stated}: texts of up to {longest:,} tokens, with load(url, {{maxLength: {longest}}})"
