"""Measures how well mapped vectors search an index of the old model: recall of nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch_export.migration.neighbours import compared, cosine, nearest, recall

if TYPE_CHECKING:
    from conch_contract import ModelInfo

    from conch_export.migration.neighbours import Floats, Places


@dataclass(frozen=True)
class Pairs:
    """Vectors of the same texts by two models.

    Attributes:
        old: the model whose index is searched.
        new: the model whose vectors are mapped.
        x: vectors of the new model, float32 [texts, dimension].
        y: vectors of the old model, float32 [texts, dimension].
    """

    old: ModelInfo
    new: ModelInfo
    x: Floats
    y: Floats

    def old_neighbours(self, places: Places) -> Places:
        """Return the ten nearest neighbours of the texts at these places, by the old model."""
        index = compared(self.y, self.old)
        return nearest(index[places], index, places)

    def found(self, queries: Floats, places: Places) -> Places:
        """Return the ten texts with old vectors nearest to queries, mapped vectors of the texts at `places`."""
        return nearest(compared(queries, self.old), compared(self.y, self.old), places)


@dataclass(frozen=True)
class Recalls:
    """Recall@10 of held-out texts that search all other texts.

    Attributes:
        queries: number of held-out texts.
        entries: number of texts that each of them searches.
        bridged: recall of the old model's neighbours by bridged vectors in the old index.
        unbridged: recall of the old model's neighbours by the new model's own vectors; None if dimensions differ.
        new_by_old: recall of the new model's neighbours by the old model in its own index.
        new_by_bridged: recall of the new model's neighbours by bridged vectors in the old index.
        cosine: mean cosine of bridged and old vectors.
    """

    queries: int
    entries: int
    bridged: float
    unbridged: float | None
    new_by_old: float
    new_by_bridged: float
    cosine: float

    @classmethod
    def of(cls, pairs: Pairs, places: Places, bridged: Floats) -> Recalls:
        """Measure bridged vectors [n, old dimension] of the texts at these places."""
        renewed = compared(pairs.x, pairs.new)
        by_old, by_new = pairs.old_neighbours(places), nearest(renewed[places], renewed, places)
        by_bridge = pairs.found(bridged, places)
        comparable = pairs.x.shape[1] == pairs.y.shape[1]
        return cls(
            queries=len(places),
            entries=len(pairs.y) - 1,
            bridged=recall(by_bridge, by_old),
            unbridged=recall(pairs.found(pairs.x[places], places), by_old) if comparable else None,
            new_by_old=recall(by_old, by_new),
            new_by_bridged=recall(by_bridge, by_new),
            cosine=cosine(bridged, pairs.y[places]),
        )
