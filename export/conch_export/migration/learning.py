"""Learning a map from pairs of vectors: every method on one part of the texts, the best by another part."""

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
    """Which texts are for what: places in their list, each in one part.

    Attributes:
        train: maps are fitted to these.
        validation: one is chosen by these.
        held_out: the chosen one is measured on these, which it has never met.
    """

    train: Places
    validation: Places
    held_out: Places

    @classmethod
    def of(cls, count: int) -> Parts:
        """The parts of so many texts, always the same ones."""
        places = np.random.default_rng(0).permutation(count)
        size = min(_MOST, round(_SHARE * count))
        return cls(places[2 * size :], places[:size], places[size : 2 * size])


@dataclass(frozen=True)
class Candidate:
    """A map and how well it did in validation.

    Attributes:
        method: `procrustes`, `affine` or `mlp`.
        layers: the map.
        recall_at_10: of the old model's neighbours, by mapped validation texts.
        cosine: of mapped and old vectors, mean.
    """

    method: str
    layers: tuple[HeadLayer, ...]
    recall_at_10: float
    cosine: float


def learned(pairs: Pairs, parts: Parts, progress: Progress = silent) -> list[Candidate]:
    """Every method's map, the best in validation first.

    Args:
        pairs: texts that both models have embedded.
        parts: of the texts.
        progress: told what is fitted.
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
    # Searched without the texts that are held out, which nothing may be chosen by.
    known = np.concatenate([parts.validation, parts.train])
    searched, places = replace(pairs, x=pairs.x[known], y=pairs.y[known]), np.arange(len(parts.validation))
    wanted, candidates = searched.old_neighbours(places), []
    for method, layers in maps.items():
        mapped = applied(layers, held[0])
        found = recall(searched.found(mapped, places), wanted)
        candidates.append(Candidate(method, layers, found, cosine(mapped, held[1])))
    # Stable, so that of equally good ones the simplest comes first.
    return sorted(candidates, key=lambda each: -each.recall_at_10)


def applied(layers: Sequence[HeadLayer], x: Floats) -> Floats:
    """Map vectors [n, new dimension], by PyTorch: what the exported graph is compared with."""
    with torch.inference_mode():
        mapped: Floats = plain.through(layers, torch.from_numpy(np.ascontiguousarray(x))).numpy()
    return mapped


def _error(affine: Affine, pairs: tuple[Floats, Floats]) -> float:
    return float(np.square(affine(pairs[0]) - pairs[1]).mean())
