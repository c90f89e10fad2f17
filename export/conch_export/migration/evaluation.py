"""How well mapped vectors find what the old model's own would: recall among the same texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch_export.migration.neighbours import compared, cosine, nearest, recall

if TYPE_CHECKING:
    from conch_contract import ModelInfo

    from conch_export.migration.neighbours import Floats, Places


@dataclass(frozen=True)
class Pairs:
    """Texts that two models have embedded.

    Attributes:
        new: the model whose vectors are mapped.
        old: the model whose vectors they are to find.
        x: float32 [texts, dimension] of the new model.
        y: float32 [texts, dimension] of the old one.
    """

    new: ModelInfo
    old: ModelInfo
    x: Floats
    y: Floats

    def old_neighbours(self, places: Places) -> Places:
        """The ten texts nearest to those at these places, by the old model."""
        index = compared(self.y, self.old)
        return nearest(index[places], index, places)

    def found(self, queries: Floats, places: Places) -> Places:
        """The ten texts whose old vectors are nearest to queries, which stand for the texts at these places."""
        return nearest(compared(queries, self.old), compared(self.y, self.old), places)


@dataclass(frozen=True)
class Recalls:
    """Shares of ten nearest neighbours that texts find which no map was fitted to, searched for in all texts.

    Attributes:
        queries: how many texts searched.
        entries: how many they searched.
        bridged: of the old model's neighbours, by bridged vectors in the old index. The old model itself has 1.
        unbridged: the same by the new model's own vectors; None where their length is another.
        new_by_old: of the new model's neighbours, by the old model: what its index gives of what a new index would.
        new_by_bridged: the same by bridged vectors in the old index.
        cosine: of bridged and old vectors, mean.
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
        """Of bridged vectors [n, old dimension] of the texts at these places."""
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
