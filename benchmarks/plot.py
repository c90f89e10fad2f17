"""A bar chart of a result as SVG, readable on light and dark pages.

python benchmarks/plot.py [RESULT.json] > chart.svg
"""

from __future__ import annotations

import math
import sys
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import results
from benchmarks.results import tokens_per_s

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.results import Result

WORKLOAD = "real"
SINGLE_CLIENT = "-one"
WIDTH, LABEL_WIDTH, VALUE_WIDTH = 820, 400, 70
BAR, GAP, TOP = 20, 8, 44
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.ours{fill:#0969da}.peer{fill:#8c959f}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.ours{fill:#4493f8}.peer{fill:#6e7681}}"
)


def systems(result: Result) -> list[str]:
    """Systems under full load: neither one client at a time nor the machine's bare products."""
    return [name for name in result["systems"] if not name.endswith(SINGLE_CLIENT) and name != "products"]


def chart(result: Result) -> str:
    """Tokens per second on real texts, fastest first."""
    rates = {name: tokens_per_s(result, name, WORKLOAD) for name in systems(result)}
    ordered = sorted((name for name in rates if not math.isnan(rates[name])), key=lambda name: -rates[name])
    height = TOP + len(ordered) * (BAR + GAP)
    title = f"Tokens per second, docstrings, {result['machine']['cores']} cores"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">'
    heading = f'<text x="0" y="20" font-weight="600">{title}</text>'
    bars = _bars(result, {name: rates[name] for name in ordered})
    return "\n".join([head, f"<style>{STYLE}</style>", heading, *bars, "</svg>", ""])


def _bars(result: Result, rates: dict[str, float]) -> Iterator[str]:
    room, longest = WIDTH - LABEL_WIDTH - VALUE_WIDTH, max(rates.values(), default=1.0)
    for number, (name, rate) in enumerate(rates.items()):
        info, y = result["systems"][name], TOP + number * (BAR + GAP)
        width = rate / longest * room
        middle = y + BAR - 5
        yield f'<text x="{LABEL_WIDTH - 8}" y="{middle}" text-anchor="end">{escape(_short(info["label"]))}</text>'
        kind = "peer" if info["peer"] else "ours"
        yield f'<rect class="{kind}" x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR}" rx="3"/>'
        yield f'<text x="{LABEL_WIDTH + width + 6:.1f}" y="{middle}">{rate:,.0f}</text>'


def _short(label: str, most: int = 58) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"


if __name__ == "__main__":
    path = Path(sys.argv[1]) if sys.argv[1:] else results.newest()
    if path is None:
        sys.exit("there is no result yet: run `make bench`, or name a file")
    print(chart(results.load(path)), end="")
