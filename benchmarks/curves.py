"""Curves over time as SVG, readable on light and dark pages: one small chart for each panel of a result."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from benchmarks.results import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    Curve = Sequence[Sequence[float]]

MONITORING, BURST = FOLDER / "monitoring.json", FOLDER / "burst.json"
COLUMNS, WIDTH, HEIGHT = 3, 300, 190
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 40, 20
MOST_CURVES = 4
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:13px}"
    ".axis{stroke:#d0d7de;fill:none}.event{stroke:#8c959f;stroke-dasharray:3 3}path{fill:none;stroke-width:1.5}"
    ".c0{stroke:#0969da}.c1{stroke:#cf222e}.c2{stroke:#1a7f37}.c3{stroke:#9a6700}"
    ".t0{fill:#0969da}.t1{fill:#cf222e}.t2{fill:#1a7f37}.t3{fill:#9a6700}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.axis{stroke:#30363d}"
    ".c0{stroke:#4493f8}.c1{stroke:#f85149}.c2{stroke:#3fb950}.c3{stroke:#d29922}"
    ".t0{fill:#4493f8}.t1{fill:#f85149}.t2{fill:#3fb950}.t3{fill:#d29922}}"
)


def read(path: Path) -> dict[str, Any]:
    """Return a result."""
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def pages() -> dict[str, Callable[[], str]]:
    """Return the pictures of monitoring.md and autoscaling.md, by their paths; nothing without a result."""
    pictures = {MONITORING: ("docs/monitoring.svg", _picture), BURST: ("docs/autoscaling.svg", _burst_picture)}
    return dict(picture for path, picture in pictures.items() if path.exists())


def burst() -> str:
    """Return the part of autoscaling.md with the picture of a burst, what was found and where it was measured."""
    if not BURST.exists():
        return "Not measured yet: `python benchmarks/burst.py` does, and `make docs` draws it here."
    result = read(BURST)
    machine, stated, found = result["machine"], result["stated"], result["found"]
    told = "; ".join(f"at {event['at_s']:.0f} s {event['what']}" for event in result["events"])
    return (
        "![Tritons, predicted wait and latency during a burst](autoscaling.svg)\n\n"
        f"{result['what']} Dashed lines: {told}. In the burst {stated['burst']:g} times as many come as one Triton can "
        f"answer ({found['one_triton_per_s']:g} a second). Of {found['requests']:,} requests {found['failed']} failed. "
        f"The first, for which the first Triton was started, took {found['first_request_s']:g} s, and the longest one "
        f"{found['longest_s']:g} s. Tritons that were ready when the burst began: {found['ready_at_burst']}. Of what "
        f"came in it more than {stated['settled_s']:g} s after two were, the 99th percentile was "
        f"{found['p99_after_scale_up_s']:g} s; the predicted wait's target is {stated['wait_s']:g} s. Measured with "
        f"`{result['command']}` on {result['date'][:10]}: {machine['cores']} cores ({machine['cpu']}), one for each "
        "Triton; gateway, controller and senders take what they need of both, so two Tritons do less than twice what "
        "one does."
    )


def block() -> str:
    """Return the part of monitoring.md with the picture, what it shows and where it was measured."""
    if not MONITORING.exists():
        return "Not measured yet: `python benchmarks/monitoring.py` does, and `make docs` draws it here."
    result = read(MONITORING)
    machine, events = result["machine"], result["events"]
    told = "; ".join(f"at {event['at_s']:.0f} s {event['what']}" for event in events)
    return (
        "![Two minutes of load with faults, as Prometheus saw them](monitoring.svg)\n\n"
        f"{result['what']} Dashed lines: {told}. Measured with `{result['command']}` on {result['date'][:10]}: "
        f"{machine['cores']} cores ({machine['cpu']}), Prometheus scraping every second, rates over {result['window']}."
    )


def _picture() -> str:
    result = read(MONITORING)
    return figure("What Prometheus saw", result["panels"], result["seconds"], result["events"])


def _burst_picture() -> str:
    result = read(BURST)
    return figure("Tritons that come and go with the work", result["panels"], result["seconds"], result["events"])


def figure(title: str, panels: Sequence[Mapping[str, Any]], seconds: float, events: Sequence[Mapping[str, Any]]) -> str:
    """Return one chart for each panel.

    Args:
        title: for readers who do not see it.
        panels: each with its `title`, its `unit` and its `curves`, lists of [seconds, value] by their names.
        seconds: that the axis of time has.
        events: each with `at_s` and `what`.
    """
    lines = -(-len(panels) // COLUMNS)
    size = f"0 0 {COLUMNS * WIDTH} {lines * HEIGHT}"
    yielded = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
    ]
    for place, panel in enumerate(panels):
        x, y = place % COLUMNS * WIDTH, place // COLUMNS * HEIGHT
        yielded += [f'<g transform="translate({x},{y})">', *_chart(panel, seconds, events), "</g>"]
    return "\n".join([*yielded, "</svg>", ""])


def _chart(panel: Mapping[str, Any], seconds: float, events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    curves: Mapping[str, Curve] = panel["curves"]
    shown = dict(sorted(curves.items(), key=lambda each: -max(value for _, value in each[1]))[:MOST_CURVES])
    most = max((value for curve in shown.values() for _, value in curve), default=0) or 1
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    title = ", ".join(filter(None, (panel["title"], panel["unit"])))
    yield f'<text class="title" x="{LEFT}" y="13">{escape(title)}</text>'
    yield f'<path class="axis" d="M{LEFT} {TOP}V{TOP + height}H{LEFT + width}"/>'
    yield f'<text x="{LEFT - 4}" y="{TOP + 8}" text-anchor="end">{most:,.{0 if most >= 100 else 2}f}</text>'
    yield f'<text x="{LEFT - 4}" y="{TOP + height}" text-anchor="end">0</text>'
    yield f'<text x="{LEFT + width}" y="{HEIGHT - 6}" text-anchor="end">{seconds:.0f} s</text>'
    for event in events:
        x = LEFT + event["at_s"] / seconds * width
        yield f'<path class="event" d="M{x:.1f} {TOP}V{TOP + height}"/>'
    x = float(LEFT)
    for number, (name, curve) in enumerate(shown.items()):
        points = [f"{LEFT + at / seconds * width:.1f} {TOP + height * (1 - value / most):.1f}" for at, value in curve]
        yield f'<path class="c{number}" d="M{"L".join(points)}"/>'
        yield f'<text class="t{number}" x="{x:.0f}" y="28">{escape(name)}</text>'
        x += 6.2 * len(name) + 10
