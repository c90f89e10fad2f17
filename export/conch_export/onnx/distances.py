"""What depends on how far apart two tokens are: biases on attention scores, and who sees whom.

Each kind comes twice: as a matrix of numbers for rows short enough to keep one, and as nodes that compute one tile of
it, because for 8,192 tokens the whole of it would take gigabytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from onnx import TensorProto

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conch_export.model.network import Attention
    from conch_export.onnx.builder import GraphBuilder

    Floats = NDArray[np.float32]

TILE_TOKENS = 64
"""Queries whose scores are held at a time in long rows: 12 heads against 8,192 keys take 25 MB."""


@dataclass(frozen=True)
class Tile:
    """Names, in a graph, of which queries meet which keys: INT64 [1] each, counted from the first token of their row.

    Attributes:
        begin: the first query; they are `TILE_TOKENS` at most.
        end: one past the last query.
        key_begin: the first key that any of them sees.
        key_end: one past the last key.
    """

    begin: str
    end: str
    key_begin: str
    key_end: str

    def distances(self, g: GraphBuilder) -> str:
        """INT64 [queries, keys], key minus query, in tokens."""
        queries, keys = _range(g, self.begin, self.end), _range(g, self.key_begin, self.key_end)
        return g.node("Sub", g.line(keys), g.column(queries))


class DistanceBias(Protocol):
    """Added to the score of every pair of tokens."""

    def matrix(self, distances: NDArray[np.int64]) -> Floats:
        """[heads, n, m] for distances [n, m], key minus query, in tokens."""

    def tile(self, g: GraphBuilder, tile: Tile) -> str:
        """The same in a graph, for the distances of a tile."""


@dataclass(frozen=True)
class Alibi:
    """slope * -|distance|, one slope a head (Press et al. 2021), to either side alike."""

    slopes: Floats

    @classmethod
    def of(cls, heads: int) -> Alibi:
        """The paper's slopes: a geometric sequence; between powers of two, every second of the next one's is added."""
        return cls(np.array(_slopes(heads), np.float32))

    def matrix(self, distances: NDArray[np.int64]) -> Floats:
        """As `DistanceBias` says."""
        return np.asarray(-self.slopes[:, None, None] * np.abs(distances), np.float32)

    def tile(self, g: GraphBuilder, tile: Tile) -> str:
        """As `DistanceBias` says."""
        lengths = g.cast(g.node("Abs", tile.distances(g)), TensorProto.FLOAT)
        return g.node("Mul", g.line(lengths), g.constant(-self.slopes[:, None, None], "alibi.slopes"))


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

    def matrix(self, distances: NDArray[np.int64]) -> Floats:
        """As `DistanceBias` says; what is beyond the table has its last number."""
        return self.table[:, np.clip(distances, -self._reach, self._reach) + self._reach]

    def tile(self, g: GraphBuilder, tile: Tile) -> str:
        """As `DistanceBias` says: cut out of one constant, which is many times faster than looking up every pair."""
        # The biases of any queries are those of the row's first ones, moved.
        first = np.arange(-self._reach, self._reach + 1)[None, :] - np.arange(TILE_TOKENS)[:, None]
        band = g.constant(self.matrix(first), "relative.band")
        origin = g.node("Sub", g.int64([self._reach]), tile.begin)
        corner = g.node("Concat", g.int64([0]), g.node("Add", tile.key_begin, origin), axis=0)
        count, end = g.node("Sub", tile.end, tile.begin), g.node("Add", tile.key_end, origin)
        return g.node("Slice", band, corner, g.node("Concat", count, end, axis=0), g.int64([1, 2]))

    @property
    def _reach(self) -> int:
        return self.table.shape[1] // 2


def score_matrix(attention: Attention, length: int) -> Floats:
    """[heads or 1, length, length]: what is added to the scores of a row of so many tokens or, its corner, of fewer."""
    places = np.arange(length)
    distances = places[None, :] - places[:, None]
    hidden = np.zeros(distances.shape, np.bool_)
    if attention.causal:
        hidden |= distances > 0
    if attention.window is not None:
        hidden |= np.abs(distances) > attention.window
    bias = attention.bias.matrix(distances) if attention.bias is not None else np.zeros((1, length, length), np.float32)
    return np.where(hidden, np.float32(-np.inf), bias)


def score_tile(g: GraphBuilder, attention: Attention, tile: Tile) -> str | None:
    """The part of `score_matrix` for a tile, as [heads, n, m] or [n, m]; None for nothing to add."""
    hidden = []
    if attention.causal:
        hidden.append(g.node("Greater", tile.distances(g), g.int64(0)))
    if attention.window is not None:
        hidden.append(g.node("Greater", g.node("Abs", tile.distances(g)), g.int64(attention.window)))
    bias = attention.bias.tile(g, tile) if attention.bias is not None else None
    if not hidden:
        return bias
    unseen = hidden[0] if len(hidden) == 1 else g.node("Or", *hidden)
    return g.node("Where", unseen, g.constant(np.float32(-np.inf)), bias or g.constant(np.float32(0)))


def score_name(attention: Attention) -> str:
    """A name that layers share whose `score_matrix` is the same; an encoder has one bias at most."""
    parts = ["scores", "bias" * (attention.bias is not None), "causal" * attention.causal]
    return ".".join(filter(None, [*parts, f"window{attention.window}" if attention.window is not None else ""]))


def _range(g: GraphBuilder, begin: str, end: str) -> str:
    return g.node("Range", g.node("Squeeze", begin), g.node("Squeeze", end), g.int64(1))
