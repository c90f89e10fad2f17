"""`conch models`: the known models, and those of them that the repository has."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from conch.options import DEFAULT_REPOSITORY, AsJson, Repository

if TYPE_CHECKING:
    from conch_export import Entry

_COLUMNS = {
    "model": "hub_id",
    "task": "task",
    "dimension": "dimension",
    "tokens": "max_length",
    "languages": "languages",
    "licence": "licence",
    "million": "parameters_m",
    "verified": "verified",
    "safetensors": "safetensors",
}
"""Headings, and the facts below them."""
_WIDE = 200


def models(repository: Repository = DEFAULT_REPOSITORY, as_json: AsJson = False) -> None:
    """List the known models, as their authors describe them, and those that the repository has."""
    from conch_export import CATALOG, exported_from  # noqa: PLC0415

    exported = exported_from(repository)
    known = [_known(entry, exported) for entry in CATALOG.values()]
    others = sorted(name for names in exported.values() for name in names)
    if as_json:
        typer.echo(json.dumps({"models": known, "others": others}, indent=2))
        return
    # Output to another program or a pager is not limited to the terminal's width.
    console = Console(width=None if sys.stdout.isatty() else _WIDE, markup=False, emoji=False)
    console.print(_table(known))
    if others:
        console.print(f"also exported to {repository}: {', '.join(others)}")


def _known(entry: Entry, exported: dict[str, list[str]]) -> dict[str, Any]:
    """Return the facts of an entry; removes its exports from `exported`."""
    facts = {"name": entry.name, **asdict(entry)}
    package = facts.pop("package")
    origins = [f"hub:{entry.hub_id}", *([f"pypi:{package.distribution}"] if package else [])]
    return facts | {"exported_as": sorted(name for origin in origins for name in exported.pop(origin, []))}


def _table(known: list[dict[str, Any]]) -> Table:
    table = Table(title="known models, as their authors describe them", title_justify="left", box=SIMPLE, padding=0)
    for heading in (*_COLUMNS, "exported as"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("model", "safetensors"))
    for facts in known:
        table.add_row(*(_cell(facts, key) for key in _COLUMNS.values()), Text(", ".join(facts["exported_as"]), "green"))
    return table


def _cell(facts: dict[str, Any], key: str) -> str:
    if key == "dimension" and facts["task"] in {"cross-encoder", "classification"}:
        return ""  # it answers scores
    if key == "safetensors":
        return facts[key] or "none known"
    return "?" if facts[key] is None else f"{facts[key]:g}" if key == "parameters_m" else str(facts[key])
