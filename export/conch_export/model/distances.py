"""Biases on attention scores that depend on how far apart two tokens are, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Alibi:
    """slope * -|distance|, one slope a head (Press et al. 2021), to either side alike."""

    slopes: Floats

    @classmethod
    def of(cls, heads: int) -> Alibi:
        """The paper's slopes: a geometric sequence; between powers of two, every second of the next one's is added."""
        return cls(np.array(_slopes(heads), np.float32))

    def matrix(self, distances: NDArray[np.int64]) -> Floats:
        """[heads, n, m] for distances [n, m], key minus query, in tokens."""
        return np.asarray(-self.slopes[:, None, None] * np.abs(distances), np.float32)


def _slopes(heads: int) -> list[float]:
    power = 1 << (heads.bit_length() - 1)
    own = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    return own if power == heads else own + _slopes(2 * power)[0::2][: heads - power]


@dataclass(frozen=True)
class RelativeBias:
    """One learnt number for every distance and head; those farther apart than `reach` share the last one of their side.

    Attributes:
        table: [heads, 2 * reach + 1]; column reach + d is for distance d.
    """

    table: Floats

    @classmethod
    def of(cls, embeddings: Floats, farthest: int) -> RelativeBias:
        """T5's, of [buckets, heads] (Raffel et al. 2020): half of the buckets to either side, few for long distances.

        Of the buckets of a side the first half is for one distance each; the others grow up to the distance `farthest`,
        and the last one is for all beyond.
        """
        side = len(embeddings) // 2
        exact = side // 2
        distances = np.arange(-farthest, farthest + 1)
        lengths = np.abs(distances)
        # In single precision as the authors have it: a bucket's edge must not move by a rounding.
        logarithms = np.log(np.maximum(lengths, 1).astype(np.float32) / np.float32(exact)) / np.float32(
            np.log(farthest / exact)
        )
        far = np.minimum(exact + (logarithms * np.float32(side - exact)).astype(np.int64), side - 1)
        # The second half of the buckets is for keys after the query.
        buckets = np.where(lengths < exact, lengths, far) + np.where(distances > 0, side, 0)
        return cls(np.ascontiguousarray(embeddings[buckets].T))

    @property
    def reach(self) -> int:
        """The largest distance with a number of its own."""
        return self.table.shape[1] // 2

    def matrix(self, distances: NDArray[np.int64]) -> Floats:
        """[heads, n, m] for distances [n, m], key minus query, in tokens."""
        return self.table[:, np.clip(distances, -self.reach, self.reach) + self.reach]


DistanceBias = Alibi | RelativeBias
"""Added to the score of every pair of tokens."""
