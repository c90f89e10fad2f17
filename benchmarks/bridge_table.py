"""The table of docs/migration.md, from `results/bridge.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.markdown import table

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULT = Path(__file__).parent / "results" / "bridge.json"


def block() -> str:
    """Return the tables, and where they were measured."""
    if not RESULT.exists():
        return "Not measured yet: `python benchmarks/bridge.py` does, and `make docs` writes the table here."
    return "\n".join(_lines(json.loads(RESULT.read_text(encoding="utf-8"))))


def _lines(result: dict[str, Any]) -> Iterator[str]:
    models = result["models"]
    yield "all-MiniLM-L6-v2 to and from spaces that were made of it:"
    yield ""
    yield from (f"- `{name}`: {what}" for name, what in models.items())
    yield ""
    head = ("new → old", "texts", "map", "bridged", "unbridged", "search: old", "bridged", "unbridged", "new")
    yield from table(head, [_row(bridge, each) for bridge in result["bridges"] for each in bridge["learned"]])
    yield ""
    int8 = result["int8"]
    yield (
        f"`int8` and `fp32` share a vector space and need no bridge: int8 queries find {int8['recall_at_10']:.1%} of "
        f"the ten neighbours that fp32 ones find in an fp32 index, and {int8['search']:.1%} in the search."
    )
    yield ""
    machine = result["machine"]
    yield (
        f"*bridged* and *unbridged*: recall@10 of the old model's neighbours by held-out docstrings of installed "
        f"packages, of which {result['texts']:,} were used at most. *search*: the share of {result['questions']:,} "
        "first sentences of the standard library's docstrings that find the rest of theirs among the first ten, in the "
        "old model's index or, in the last column, in the new one's; no map has met these. Measured with "
        f"`{result['command']}` on {result['date'][:10]}: {machine['cores']} cores ({machine['cpu']})."
    )


def _row(bridge: dict[str, Any], each: dict[str, Any]) -> tuple[str, ...]:
    held_out = each["held_out"]
    return (
        f"`{bridge['new']}` → `{bridge['old']}`",
        f"{each['texts']:,}",
        each["method"],
        f"{held_out['bridged']:.3f}",
        "-" if held_out["unbridged"] is None else f"{held_out['unbridged']:.3f}",
        f"{bridge['native_search']:.3f}",
        f"{each['bridged_search']:.3f}",
        f"{bridge['unbridged_search']:.3f}",
        f"{bridge['new_search']:.3f}",
    )
