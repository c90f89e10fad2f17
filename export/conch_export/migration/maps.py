"""Linear maps from the vectors of one model to those of another, fitted to pairs of vectors of the same texts.

A map is a stack of layers at the end of a head's graph. The last layer normalises, if the old model's vectors are
normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from conch_export.model.heads import Dense, Unit
from conch_export.model.network import Linear

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conch_export.migration.neighbours import Floats
    from conch_export.model.heads import HeadLayer

    Doubles = NDArray[np.float64]

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Strengths of the penalty of ridge regression, in units of the mean variance of the vectors."""


@dataclass(frozen=True)
class Affine:
    """x @ weight + bias; weight is [new dimension, old dimension], bias [old dimension]."""

    weight: Doubles
    bias: Doubles

    def __call__(self, x: Floats) -> Doubles:
        """Map vectors [n, new dimension] to [n, old dimension]."""
        return np.asarray(x @ self.weight + self.bias, np.float64)

    @property
    def dense(self) -> Dense:
        """The map as a layer of a head."""
        return Dense(Linear(self.weight.astype(np.float32), self.bias.astype(np.float32)))

    def layers(self, *, unit: bool) -> tuple[HeadLayer, ...]:
        """Return the map as layers; with `unit`, its vectors have length 1."""
        return (self.dense, *([Unit()] if unit else []))


def procrustes(x: Floats, y: Floats) -> Affine:
    """Fit the rotation, scale and shift that bring x [n, new] closest to y [n, old] (Schönemann and Carroll 1970).

    If the dimensions differ, the rotation has orthonormal rows or columns.
    """
    of_x, of_y = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
    left, singular, right = np.linalg.svd((x - of_x).T @ (y - of_y), full_matrices=False)
    rotation = left @ right
    turned = (x - of_x) @ rotation
    weight = rotation * (singular.sum() / max(float(np.square(turned).sum()), 1e-30))
    return Affine(weight, of_y - of_x @ weight)


def ridge(x: Floats, y: Floats, begun: Affine, strength: float) -> Affine:
    """Fit an affine map by least squares, with a penalty on the distance of its weight from that of `begun`.

    Args:
        x: vectors of the new model [n, new].
        y: vectors of the old model [n, old].
        begun: the map to which the penalty pulls.
        strength: strength of the penalty, in units of the mean variance of x.
    """
    of_x, rest = x.mean(axis=0, dtype=np.float64), y - begun(x)
    centred, of_rest = x - of_x, rest.mean(axis=0)
    products = centred.T @ centred
    penalty = strength * float(np.trace(products)) / len(products)
    change = np.linalg.solve(products + penalty * np.eye(len(products)), centred.T @ (rest - of_rest))
    return Affine(begun.weight + change, begun.bias + of_rest - of_x @ change)
