"""Biases and masks by distance as nodes of a graph: numbers added to scores, -inf where a token may not look.

They depend on nothing but how far apart two tokens are. So a constant for the longest short row serves all short rows,
each of which adds its corner; and what a tile of a long row adds is that of the row's first queries, moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from conch_export.model.distances import Alibi

if TYPE_CHECKING:
    from conch_export.model.distances import DistanceBias, RelativeBias
    from conch_export.model.network import Attention
    from conch_export.onnx.builder import GraphBuilder

SHORT_TOKENS = 160
"""Rows up to this length take the plain way; the two cross between 128 and 256 tokens (12 heads of 32, one core)."""
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


def short_scores(g: GraphBuilder, attention: Attention, corner: str) -> str:
    """`Attention.score_matrix` of a row of `SHORT_TOKENS` at most, by its numbers of queries and keys, INT64 [2]."""
    scores = g.shared("scores", attention.score_matrix(SHORT_TOKENS))
    return g.node("Slice", scores, g.int64([0, 0]), corner, g.int64([1, 2]))


def tile_scores(g: GraphBuilder, attention: Attention, tile: Tile) -> str | None:
    """The part of `Attention.score_matrix` for a tile, as [heads, n, m] or [n, m]; None for nothing to add."""
    hidden = []
    if attention.causal:
        hidden.append(g.node("Greater", tile.distances(g), g.int64(0)))
    if attention.window is not None:
        hidden.append(g.node("Greater", g.node("Abs", tile.distances(g)), g.int64(attention.window)))
    bias = _bias_tile(g, attention.bias, tile) if attention.bias is not None else None
    if not hidden:
        return bias
    anything = hidden[0] if len(hidden) == 1 else g.node("Or", *hidden)
    return g.node("Where", anything, g.constant(np.float32(-np.inf)), bias or g.constant(np.float32(0)))


def _bias_tile(g: GraphBuilder, bias: DistanceBias, tile: Tile) -> str:
    if isinstance(bias, Alibi):
        lengths = g.cast(g.node("Abs", tile.distances(g)), TensorProto.FLOAT)
        return g.node("Mul", g.line(lengths), g.constant(-bias.slopes[:, None, None], "alibi.slopes"))
    return _relative_tile(g, bias, tile)


def _relative_tile(g: GraphBuilder, bias: RelativeBias, tile: Tile) -> str:
    # One constant holds a tile's biases up to where none changes any more on either side. Cutting and extending it is
    # many times faster than looking up every pair.
    width = 2 * bias.reach + TILE_TOKENS
    distances = np.arange(width)[None, :] - bias.reach - np.arange(TILE_TOKENS)[:, None]
    band = g.shared("relative.band", bias.matrix(distances))
    # How much further than the band the tile's keys reach; what is negative is cut off.
    rows = g.node("Sub", g.node("Sub", tile.end, tile.begin), g.int64([TILE_TOKENS]))
    before = g.node("Sub", g.node("Sub", tile.begin, tile.key_begin), g.int64([bias.reach]))
    after = g.node("Sub", g.node("Sub", tile.key_end, tile.begin), g.int64([width - bias.reach]))
    none = g.int64([0])
    pads = g.node("Concat", none, none, before, none, rows, after, axis=0)
    return g.node("Pad", band, pads, mode="edge")


def _range(g: GraphBuilder, begin: str, end: str) -> str:
    return g.node("Range", g.node("Squeeze", begin), g.node("Squeeze", end), g.int64(1))
