"""Tables of `conch migrate`: two models side by side, and the recall of a bridge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from conch.console import facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conch_export import Bridge, Comparison
    from conch_export.migration.comparison import Side

_HOUR_S = 3600


def comparison_tables(found: Comparison) -> Iterator[Table]:
    """Return the tables of a comparison: facts and costs of each model, agreement, thresholds."""
    yield _sides(found)
    yield facts(f"agreement on {found.texts:,} texts", _agreement(found))
    if found.thresholds:
        yield _thresholds(found)


def _sides(found: Comparison) -> Table:
    table = Table("", f"old: {found.old.name}", f"new: {found.new.name}", title="models", title_justify="left")
    for (name, old), (_, new) in zip(_side(found.old), _side(found.new), strict=True):
        table.add_row(name, old, new)
    return table


def _side(side: Side) -> Iterator[tuple[str, str]]:
    yield "vector space", side.space_id or "not stated"
    yield "precision, most tokens", f"{side.precision}, {side.max_length}"
    yield "dimension", str(side.dimension)
    yield "index, million texts", f"{side.index_bytes_per_million_texts / 1e9:.2f} GB in float32"
    yield "one core, million texts", f"{side.processor_s_per_million_texts / _HOUR_S:,.1f} h"
    measured = "not measured on a GPU" if side.peak_bytes is None else f"{side.peak_bytes / 1e6:,.0f} MB"
    yield "memory of an instance", measured
    yield "disk", f"{side.disk_bytes / 1e6:,.1f} MB"
    yield "score of two texts", f"{side.score_mean:.3f} ± {side.score_spread:.3f}"


def _agreement(found: Comparison) -> Iterator[tuple[str, str]]:
    yield "ten nearest neighbours", f"{found.neighbours_at_10:.1%} of the old model's are the new one's"
    yield "nearest neighbour", f"the same for {found.nearest:.1%} of the texts"
    yield "rank correlation of scores", f"{found.rank_correlation:.4f} (Spearman)"
    same = "the same: an index of the old model serves the new one" if found.same_space else "two: their vectors differ"
    yield "vector space", same if found.old.space_id and found.new.space_id else "not stated by both"


def _thresholds(found: Comparison) -> Table:
    table = Table("old score", "new score", "pairs", "of them the same", title="thresholds", title_justify="left")
    for each in found.thresholds:
        table.add_row(f"{each.old:g}", f"{each.new:.3f}", f"{each.share:.2%}", f"{each.agreement:.1%}")
    return table


def bridge_table(bridge: Bridge) -> Table:
    """Return the table of a bridge that was published."""
    return facts(bridge.name, _bridge(bridge))


def _bridge(bridge: Bridge) -> Iterator[tuple[str, str]]:
    found = bridge.held_out
    yield (
        "map",
        f"{bridge.method}, the best in validation: "
        + ", ".join(f"{method} {value:.1%}" for method, value in bridge.validation.items()),
    )
    yield "held out", f"{found.queries:,} of {bridge.texts:,} texts, each searching the others"
    yield f"neighbours by {bridge.old}", f"{found.bridged:.1%} found through the bridge; {_unbridged(bridge)}"
    yield (
        f"neighbours by {bridge.new}",
        f"{found.new_by_bridged:.1%} found in the old index through the bridge, {found.new_by_old:.1%} by {bridge.old}",
    )
    yield "cosine to the old vectors", f"{found.cosine:.4f}"
    yield "graph against PyTorch", f"largest difference {bridge.max_difference:.1e}"
    yield "vector space", f"{bridge.space_id}; approximates {bridge.bridges_to}, which ~{bridge.bridges_to} accepts"


def _unbridged(bridge: Bridge) -> str:
    if bridge.held_out.unbridged is None:
        return "without it nothing can be searched, the dimensions differ"
    return f"{bridge.held_out.unbridged:.1%} without it"
