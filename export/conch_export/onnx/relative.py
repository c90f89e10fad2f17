"""What scores gain where contents meet relative positions (`RelativePositions`), as nodes of a graph.

Tokens that are next to each other need positions that are too: r of them that meet n others need the positions at
r + n - 1 distances. One product of all with all holds every score that is needed, each token's a place further left
than those of the token before. Read as rows that are one number shorter, the product has them straight below each
other (as in Transformer-XL, Dai et al. 2019). Looking up each score by its place (GatherElements) took up to three
times as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conch_export.onnx.builder import MICROSOFT
from conch_export.onnx.distances import SHORT_TOKENS, TILE_TOKENS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conch_export.model.arrays import Array
    from conch_export.model.network import RelativePositions
    from conch_export.onnx.builder import GraphBuilder
    from conch_export.onnx.distances import Tile

_END = 2**31


class RelativeScores:
    """Those of one layer.

    Args:
        g: the graph.
        positions: that contents meet.
        scale: of the scores, which queries have in them already.
        counts: INT64 [C, 1], tokens of every row.
    """

    def __init__(self, g: GraphBuilder, positions: RelativePositions, scale: float, counts: str) -> None:
        # Whole tiles, of which the last one's surplus is cut off in the end: what it looks up does not matter.
        self._reach = -(-max(positions.reach, SHORT_TOKENS) // TILE_TOKENS) * TILE_TOKENS
        rows = np.pad(positions.rows, self._reach - positions.reach, mode="edge")
        self._rows = g.shared("relative.rows", rows)
        tables = positions.keys, positions.queries * scale
        self._keys, self._queries = g.shared("relative.keys", tables[0]), g.shared("relative.queries", tables[1])
        self._near = [_Near(g, table, rows) for table in tables] if positions.rounded else []
        self._counts = counts
        middle = g.int64([[SHORT_TOKENS if self._near else self._reach]])
        self._begins, self._ends = g.node("Sub", middle, counts), g.node("Add", middle, counts)
        heads = g.node("Expand", g.int64([[len(positions.keys)]]), g.node("Shape", counts))
        wide = g.node("Sub", g.node("Add", counts, counts), g.int64([[1]]))
        self._shapes = g.node("Concat", heads, counts, wide, axis=1)

    def short(self, g: GraphBuilder, index: str, query: str, key: str) -> list[str]:
        """FP32 [heads, n, n] each, to add to the scores of a row at once.

        Args:
            g: the graph of the row.
            index: of the row.
            query: FP32 [heads, n, width].
            key: FP32 [heads, width, n].
        """
        count, begin, end, shape = (
            g.node("Gather", each, index) for each in (self._counts, self._begins, self._ends, self._shapes)
        )
        if self._near:
            tokens = (query, g.node("Transpose", key, perm=[0, 2, 1]))
            products = [near.met_by(g, each, begin, end) for near, each in zip(self._near, tokens, strict=True)]
        else:
            rows = g.slice(self._rows, begin, end)
            keys, queries = (g.node("Gather", table, rows, axis=1) for table in (self._keys, self._queries))
            products = [_product(g, query, keys), _product(g, key, queries, transposed=True)]
        by_query, by_key = (_straight(g, product, 1, count, shape) for product in products)
        first = g.int64([0])
        by_key = g.node("Transpose", g.slice(by_key, first, count, 2), perm=[0, 2, 1])
        return [g.slice(by_query, first, count, 2), by_key]

    def tiled(self, g: GraphBuilder, query: str, key: str, count: str) -> RelativeTiles:
        """The same of a row of `count` tokens, INT64 [1], for some of its queries at a time."""
        tiles = g.node("Div", g.node("Add", count, g.int64([TILE_TOKENS - 1])), g.int64([TILE_TOKENS]))
        missing = g.node("Sub", g.node("Mul", tiles, g.int64([TILE_TOKENS])), count)
        queries = g.node("Pad", query, g.node("Concat", g.int64([0, 0, 0, 0]), missing, g.int64([0]), axis=0))
        keys = g.node("Pad", key, g.node("Concat", g.int64([0, 0, 0, 0, 0]), missing, axis=0))
        # FP32 [heads, tiles, TILE_TOKENS, width]
        keys = g.node("Reshape", keys, g.int64([0, 0, -1, TILE_TOKENS]))
        return RelativeTiles(self, queries, g.node("Transpose", keys, perm=[0, 2, 3, 1]), tiles)

    def by_query(self, g: GraphBuilder, query: str, begin: str, end: str) -> str:
        """FP32 [heads, TILE_TOKENS, n]: queries meet the keys' positions at distances begin .. end - 1."""
        first, last = (g.node("Add", each, g.int64([self._reach])) for each in (begin, end))
        rows = g.slice(self._rows, first, last)
        product = _product(g, query, g.node("Gather", self._keys, rows, axis=1))
        return _straight(g, product, 1, g.int64([TILE_TOKENS]), g.int64([0, TILE_TOKENS, -1]))

    def by_key(self, g: GraphBuilder, keys: str, tiles: str, begin: str) -> str:
        """FP32 [heads, TILE_TOKENS, n]: all tiles of keys meet the positions of the queries from `begin` on."""
        first = self._reach - TILE_TOKENS * (np.arange(self._reach // TILE_TOKENS) + 1)
        windows = g.shared("relative.windows", first[:, None] + np.arange(2 * TILE_TOKENS))
        places = g.node("Add", g.slice(windows, g.int64([0]), tiles), begin)
        positions = g.node("Gather", self._queries, g.node("Gather", self._rows, places), axis=1)
        shape = g.int64([0, 0, TILE_TOKENS, 2 * TILE_TOKENS - 1])
        straight = _straight(g, _product(g, keys, positions), 2, g.int64([TILE_TOKENS]), shape)
        straight = g.slice(straight, g.int64([0]), g.int64([TILE_TOKENS]), 3)
        turned = g.node("Transpose", straight, perm=[0, 3, 1, 2])
        return g.node("Reshape", turned, g.int64([0, 0, -1]))


class _Near:
    """Positions of one kind in 8 bits, one for each distance that occurs in short rows, without steps.

    Half of the time of a product is saved, and its positions are cut out instead of gathered (ADR 24).
    """

    def __init__(self, g: GraphBuilder, table: Array, rows: NDArray[np.int64]) -> None:
        middle = len(rows) // 2
        near = np.asarray(table)[:, rows[middle - SHORT_TOKENS : middle + SHORT_TOKENS]].transpose(0, 2, 1)
        scale = np.maximum(np.abs(near).max(), np.finfo(np.float32).tiny) / np.float32(127)
        self._table = g.shared("relative.near", np.rint(near / scale).astype(np.int8))
        self._scale = g.constant(np.float32(scale))

    def met_by(self, g: GraphBuilder, contents: str, begin: str, end: str) -> str:
        """FP32 [heads, n, end - begin]: contents FP32 [heads, n, width], rounded with one scale for the row."""
        positions = g.slice(self._table, begin, end, 2)
        return g.node("DynamicQuantizeMatMul", contents, positions, self._scale, domain=MICROSOFT)


class RelativeTiles:
    """Those of one long row.

    Args:
        scores: of the layer.
        queries: FP32 [heads, tiles * TILE_TOKENS, width].
        keys: FP32 [heads, tiles, TILE_TOKENS, width].
        tiles: INT64 [1], their number.
    """

    def __init__(self, scores: RelativeScores, queries: str, keys: str, tiles: str) -> None:
        self._scores, self._queries, self._keys, self._tiles = scores, queries, keys, tiles

    def __call__(self, g: GraphBuilder, tile: Tile) -> list[str]:
        """FP32 [heads, queries, keys] each, to add to the scores of a tile of queries and all keys of the row."""
        size = g.int64([TILE_TOKENS])
        query = g.slice(self._queries, tile.begin, g.node("Add", tile.begin, size), 1)
        first = g.node("Neg", g.node("Add", tile.begin, size))
        last = g.node("Sub", g.node("Mul", self._tiles, size), tile.begin)
        found = (
            self._scores.by_query(g, query, first, last),
            self._scores.by_key(g, self._keys, self._tiles, tile.begin),
        )
        corner = g.node("Concat", g.node("Sub", tile.end, tile.begin), tile.key_end, axis=0)
        return [g.node("Slice", each, g.int64([0, 0]), corner, g.int64([1, 2])) for each in found]


def _product(g: GraphBuilder, contents: str, positions: str, *, transposed: bool = False) -> str:
    """FP32 [..., r, m]: each content [..., r, width], or [..., width, r] if transposed, with each position."""
    return g.node("FusedMatMul", contents, positions, domain=MICROSOFT, transA=int(transposed), transB=1)


def _straight(g: GraphBuilder, product: str, axes: int, count: str, shape: str) -> str:
    """FP32 [..., r, r + n] as [..., r, r + n - 1], of which the first n are the scores of each token.

    Args:
        g: the graph.
        product: position k is at distance k - r from the first token, k - r - 1 from the second.
        axes: how many come before those two.
        count: r.
        shape: of the result.
    """
    flat = g.node("Reshape", product, g.int64([*[0] * axes, -1]))
    return g.node("Reshape", g.slice(flat, count, g.int64([_END]), -1), shape)
