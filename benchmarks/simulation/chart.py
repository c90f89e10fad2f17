"""Line charts as SVG, in the style of `benchmarks/plot.py`: readable on light and dark pages."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH, HEIGHT = 820, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 64, 46
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.grid{stroke:#d1d9e0}path{fill:none;stroke-width:2}"
    ".s0{stroke:#0969da}.s1{stroke:#bc4c00}.s2{stroke:#8c959f}.f0{fill:#0969da}.f1{fill:#bc4c00}.f2{fill:#8c959f}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#3d444d}"
    ".s0{stroke:#4493f8}.s1{stroke:#f0883e}.s2{stroke:#9198a1}.f0{fill:#4493f8}.f1{fill:#f0883e}.f2{fill:#9198a1}}"
)


@dataclass(frozen=True)
class Series:
    """A line, or points where `marks`.

    Attributes:
        name: In the legend.
        points: X and Y.
        marks: Whether points are drawn instead of a line.
        color: Number of its colour.
    """

    name: str
    points: Sequence[tuple[float, float]]
    marks: bool = False
    color: int = 0


@dataclass(frozen=True)
class Axis:
    """What an axis shows, and whether in powers of ten."""

    name: str
    log: bool = False

    def scale(self, values: Sequence[float]) -> Scale:
        """Return the scale that has room for these values."""
        return Scale.of(values, log=self.log)


@dataclass(frozen=True)
class Scale:
    """From values to places between 0 and 1."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float], *, log: bool) -> Scale:
        """Return a scale whose ends are ticks."""
        most = max(values)
        if log:
            least = min(value for value in values if value > 0)
            low, high = 10.0 ** floor(log10(least)), 10.0 ** ceil(log10(most) - 1e-9)
            powers = range(round(log10(low)), round(log10(high)) + 1)
            return cls(low, high, log, tuple(10.0**power for power in powers))
        step = _step(most)
        count = max(1, ceil(most / step - 1e-9))
        return cls(0.0, count * step, log, tuple(number * step for number in range(count + 1)))

    def place(self, value: float) -> float:
        """Return where a value is."""
        if self.log:
            return (log10(max(value, self.low)) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return (value - self.low) / (self.high - self.low)


def chart(title: str, x: Axis, y: Axis, series: Sequence[Series]) -> str:
    """Return the picture; points without a finite place are left out."""
    kept = [
        Series(one.name, [p for p in one.points if isfinite(p[0]) and isfinite(p[1])], one.marks, one.color)
        for one in series
    ]
    across = x.scale([point[0] for one in kept for point in one.points])
    up = y.scale([point[1] for one in kept for point in one.points])
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">'
    heading = f'<text x="0" y="18" font-weight="600">{escape(title)}</text>'
    parts = [*_grid(across, up, x.name, y.name), *_legend(kept)]
    lines = [line for one in kept for line in _drawn(one, across, up)]
    return "\n".join([head, f"<style>{STYLE}</style>", heading, *parts, *lines, "</svg>", ""])


def _grid(across: Scale, up: Scale, x: str, y: str) -> Iterator[str]:
    for tick in up.ticks:
        at = _y(up, tick)
        yield f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke-width="1"/>'
        yield f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{tick:,g}</text>'
    for tick in across.ticks:
        at, foot = _x(across, tick), HEIGHT - BOTTOM
        yield f'<text x="{at:.1f}" y="{foot + 18}" text-anchor="middle">{tick:,g}</text>'
    yield f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{escape(x)}</text>'
    yield f'<text x="{LEFT - 8}" y="{TOP - 12}" text-anchor="end">{escape(y)}</text>'


def _legend(series: Sequence[Series]) -> Iterator[str]:
    at = LEFT + 20
    for one in series:
        corner = 6 if one.marks else 2
        yield f'<rect class="f{one.color}" x="{at}" y="{TOP - 32}" width="12" height="12" rx="{corner}"/>'
        yield f'<text x="{at + 18}" y="{TOP - 22}">{escape(one.name)}</text>'
        at += 40 + 7 * len(one.name)


def _drawn(one: Series, across: Scale, up: Scale) -> Iterator[str]:
    places = [(_x(across, x), _y(up, y)) for x, y in one.points]
    if one.marks:
        yield from (f'<circle class="f{one.color}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in places)
    elif places:
        steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        yield f'<path class="s{one.color}" d="M{steps}"/>'


def _x(scale: Scale, value: float) -> float:
    return LEFT + scale.place(value) * (WIDTH - LEFT - RIGHT)


def _y(scale: Scale, value: float) -> float:
    return HEIGHT - BOTTOM - scale.place(value) * (HEIGHT - TOP - BOTTOM)


def _step(most: float) -> float:
    """Return 1, 2 or 5 times a power of ten, of which four to ten make the largest value."""
    power = 10.0 ** floor(log10(most / 4))
    return next(step * power for step in (1, 2, 5, 10) if most / (step * power) <= 8)
