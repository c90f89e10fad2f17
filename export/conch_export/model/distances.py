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
    """One learnt number for every distance and head.

    Attributes:
        table: [heads, 2 * reach + 1]; column reach + d is for distance d. No two tokens of a row are farther apart than
            `reach`.
    """

    table: Floats

    @property
    def reach(self) -> int:
        """The largest distance."""
        return self.table.shape[1] // 2

    def matrix(self, distances: NDArray[np.int64]) -> Floats:
        """[heads, n, m] for distances [n, m], key minus query, in tokens; beyond the table its last number."""
        # The constants of the graph reach beyond the table, whose ends are repeated there; no two tokens of a row do.
        return self.table[:, np.clip(distances, -self.reach, self.reach) + self.reach]


DistanceBias = Alibi | RelativeBias
"""Added to the score of every pair of tokens."""
