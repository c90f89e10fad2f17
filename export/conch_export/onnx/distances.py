"""What is added to attention scores by distance, in a graph: biases, and -inf where a token may not look.

For short rows it is one constant matrix (`Attention.score_matrix`). For 8,192 tokens that would take gigabytes, so the
scores of long rows are computed in tiles, and so is what is added to them.
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


def score_tile(g: GraphBuilder, attention: Attention, tile: Tile) -> str | None:
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


def score_name(attention: Attention) -> str:
    """A name that layers share whose `score_matrix` is the same; an encoder has one bias at most."""
    parts = ["scores", "bias" * (attention.bias is not None), "causal" * attention.causal]
    return ".".join(filter(None, [*parts, f"window{attention.window}" if attention.window is not None else ""]))


def _bias_tile(g: GraphBuilder, bias: DistanceBias, tile: Tile) -> str:
    if isinstance(bias, Alibi):
        lengths = g.cast(g.node("Abs", tile.distances(g)), TensorProto.FLOAT)
        return g.node("Mul", g.line(lengths), g.constant(-bias.slopes[:, None, None], "alibi.slopes"))
    return _relative_tile(g, bias, tile)


def _relative_tile(g: GraphBuilder, bias: RelativeBias, tile: Tile) -> str:
    # Cut out of one constant, which is many times faster than looking up every pair: the biases of a tile depend on
    # distances only, so they are those of the row's first queries, moved by where the tile begins.
    first = np.arange(-bias.reach, bias.reach + 1)[None, :] - np.arange(TILE_TOKENS)[:, None]
    band = g.constant(bias.matrix(first), "relative.band")
    origin = g.node("Sub", g.int64([bias.reach]), tile.begin)
    corner = g.node("Concat", g.int64([0]), g.node("Add", tile.key_begin, origin), axis=0)
    count, end = g.node("Sub", tile.end, tile.begin), g.node("Add", tile.key_end, origin)
    return g.node("Slice", band, corner, g.node("Concat", count, end, axis=0), g.int64([1, 2]))


def _range(g: GraphBuilder, begin: str, end: str) -> str:
    return g.node("Range", g.node("Squeeze", begin), g.node("Squeeze", end), g.int64(1))
