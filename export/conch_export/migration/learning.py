"""Learns maps from pairs of vectors: fits every method to training texts, and ranks them by validation texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from conch_export.migration.maps import STRENGTHS, procrustes, ridge
from conch_export.migration.neighbours import cosine, recall
from conch_export.migration.residual import corrected
from conch_export.progress import silent
from conch_export.verification import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_export.migration.evaluation import Pairs
    from conch_export.migration.maps import Affine
    from conch_export.migration.neighbours import Floats, Places
    from conch_export.model.heads import HeadLayer
    from conch_export.progress import Progress

_SHARE, _MOST = 0.15, 2000


@dataclass(frozen=True)
class Parts:
    """Places of the texts of each part; every text is in one part.

    Attributes:
        train: texts to which maps are fitted.
        validation: texts by which the best map is chosen.
        held_out: texts on which the chosen map is measured.
    """

    train: Places
    validation: Places
    held_out: Places

    @classmethod
    def of(cls, count: int) -> Parts:
        """Divide texts into parts, deterministically by their number."""
        places = np.random.default_rng(0).permutation(count)
        size = min(_MOST, round(_SHARE * count))
        return cls(places[2 * size :], places[:size], places[size : 2 * size])


@dataclass(frozen=True)
class Candidate:
    """A map and its results in validation.

    Attributes:
        method: `procrustes`, `affine` or `mlp`.
        layers: the map.
        recall_at_10: recall of the old model's neighbours by mapped validation texts.
        cosine: mean cosine of mapped and old vectors.
    """

    method: str
    layers: tuple[HeadLayer, ...]
    recall_at_10: float
    cosine: float


def learned(pairs: Pairs, parts: Parts, progress: Progress = silent) -> list[Candidate]:
    """Fit every method; return their maps, the best in validation first.

    Args:
        pairs: vectors of both models.
        parts: the parts of their texts.
        progress: receives what is being fitted.
    """
    train, held = ((pairs.x[places], pairs.y[places]) for places in (parts.train, parts.validation))
    progress("fitting linear maps")
    turned = procrustes(*train)
    affine = min((ridge(*train, turned, strength) for strength in STRENGTHS), key=lambda each: _error(each, held))
    unit = pairs.old.normalized
    maps = {
        "procrustes": turned.layers(unit=unit),
        "affine": affine.layers(unit=unit),
        "mlp": corrected(affine, train, held, progress, unit=unit),
    }
    # The index excludes held-out texts, which must not influence the choice.
    known = np.concatenate([parts.validation, parts.train])
    searched, places = replace(pairs, x=pairs.x[known], y=pairs.y[known]), np.arange(len(parts.validation))
    wanted, candidates = searched.old_neighbours(places), []
    for method, layers in maps.items():
        mapped = applied(layers, held[0])
        found = recall(searched.found(mapped, places), wanted)
        candidates.append(Candidate(method, layers, found, cosine(mapped, held[1])))
    # The sort is stable: of equally good maps, the simplest comes first.
    return sorted(candidates, key=lambda each: -each.recall_at_10)


def applied(layers: Sequence[HeadLayer], x: Floats) -> Floats:
    """Map vectors [n, new dimension] with PyTorch, the reference of the exported graph."""
    with torch.inference_mode():
        mapped: Floats = plain.through(layers, torch.from_numpy(np.ascontiguousarray(x))).numpy()
    return mapped


def _error(affine: Affine, pairs: tuple[Floats, Floats]) -> float:
    return float(np.square(affine(pairs[0]) - pairs[1]).mean())
