"""Disentangled attention (DeBERTa) as nodes of a graph: products of tokens with relative positions, added to scores.

r tokens in a row and n others are at r + n - 1 distances from each other. One product of the r tokens with the
positions at all these distances holds every score that is needed, those of each token one column further left than
those of the token before. Reshaped to rows that are one number shorter, the product has them in the same columns (as in
Transformer-XL, Dai et al. 2019). Looking up each score by its index (GatherElements) took up to three times as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

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
KEY_TOKENS = 32
"""Keys that meet positions together in long rows: fewer of them meet fewer positions that they do not need."""

Number = TypeVar("Number", np.int8, np.int64)
Contents = tuple[str, ...]
"""Names of the tokens' vectors, [heads, ..., width]: FP32, or UINT8 followed by their scale and zero point."""


class RelativeScores:
    """The scores with relative positions of one layer.

    Args:
        g: the graph.
        positions: keys and queries of the relative positions.
        scale: of the scores; the layer's queries are multiplied by it already.
        counts: INT64 [C, 1], tokens of every row.
    """

    def __init__(self, g: GraphBuilder, positions: RelativePositions, scale: float, counts: str) -> None:
        self.reach = _reach(positions)
        self.heads, _, self.width = positions.keys.shape
        rows = np.pad(positions.rows, self.reach - positions.reach, mode="edge")[: 2 * self.reach]
        kind = _Rounded if positions.rounded else _Exact
        self.keys, self.queries = kind(g, positions.keys, rows), kind(g, positions.queries * scale, rows)
        self._counts = counts
        middle = g.int64([[SHORT_TOKENS]])
        self._begins, self._ends = g.node("Sub", middle, counts), g.node("Add", middle, counts)
        heads = g.node("Expand", g.int64([[self.heads]]), g.node("Shape", counts))
        wide = g.node("Sub", g.node("Add", counts, counts), g.int64([[1]]))
        self._shapes = g.node("Concat", heads, counts, wide, axis=1)

    def short(self, g: GraphBuilder, index: str, query: str, key: str) -> list[str]:
        """FP32 [heads, n, n] each, to add to the scores of a row at once.

        Args:
            g: the graph of the row.
            index: of the row.
            query: FP32 [heads, n, width].
            key: FP32 [heads, n, width].
        """
        count, begin, end, shape = (
            g.node("Gather", each, index) for each in (self._counts, self._begins, self._ends, self._shapes)
        )
        found = []
        for positions, tokens in ((self.keys, query), (self.queries, key)):
            product = positions.at_distances(g, positions.contents(g, tokens), begin, end, SHORT_TOKENS)
            found.append(g.slice(_straight(g, product, 1, count, shape), g.int64([0]), count, 2))
        by_query, by_key = found
        return [by_query, g.node("Transpose", by_key, perm=[0, 2, 1])]

    def tiled(self, g: GraphBuilder, query: str, key: str, count: str) -> RelativeTiles:
        """The same of a row of `count` tokens, INT64 [1], for some of its queries at a time."""
        return RelativeTiles(g, self, self.keys.contents(g, query), self.queries.contents(g, key), count)


class RelativeTiles:
    """The same scores of one long row, for a tile of its queries at a time.

    Args:
        g: the graph of the row.
        scores: of the layer.
        queries: [heads, n, width].
        keys: [heads, n, width].
        count: INT64 [1], n.
    """

    def __init__(self, g: GraphBuilder, scores: RelativeScores, queries: Contents, keys: Contents, count: str) -> None:
        size = g.int64([KEY_TOKENS])
        self._scores, self._queries, self._count = scores, queries, count
        self._tiles = g.node("Div", g.node("Add", count, g.int64([KEY_TOKENS - 1])), size)
        missing = g.node("Sub", g.node("Mul", self._tiles, size), count)
        pads = g.node("Concat", g.int64([0, 0, 0, 0]), missing, g.int64([0]), axis=0)
        tiles = g.node("Reshape", g.node("Pad", keys[0], pads), g.int64([0, -1, KEY_TOKENS, scores.width]))
        # [heads, tiles, KEY_TOKENS, width]
        self._keys = (tiles, *keys[1:])

    def __call__(self, g: GraphBuilder, tile: Tile) -> list[str]:
        """FP32 [heads, queries, keys] each, to add to the scores of a tile of queries and all keys of the row."""
        queries = g.node("Sub", tile.end, tile.begin)
        return [self._by_query(g, tile, queries), self._by_key(g, tile, queries)]

    def _by_query(self, g: GraphBuilder, tile: Tile, queries: str) -> str:
        """Products of the tile's queries with the positions of all keys."""
        met = g.slice(self._queries[0], tile.begin, tile.end, 1), *self._queries[1:]
        reach = self._scores.reach
        middle = g.int64([reach])
        first, last = g.node("Sub", middle, tile.end), g.node("Sub", g.node("Add", middle, self._count), tile.begin)
        product = self._scores.keys.at_distances(g, met, first, last, reach)
        straight = _straight(g, product, 1, queries, g.node("Concat", g.int64([0]), queries, g.int64([-1]), axis=0))
        return g.slice(straight, g.int64([0]), self._count, 2)

    def _by_key(self, g: GraphBuilder, tile: Tile, queries: str) -> str:
        """Products of all keys with the positions of the tile's queries."""
        zero, size = g.int64([0]), g.int64([KEY_TOKENS])
        first = g.node("Div", g.node("Sub", g.int64([self._scores.reach - TILE_TOKENS]), tile.begin), size)
        begin = g.node("Concat", first, zero, axis=0)
        end = g.node("Concat", g.node("Add", first, self._tiles), g.node("Add", queries, size), axis=0)
        product = self._scores.queries.in_windows(g, self._keys, begin, end)
        straight = _straight(g, product, 2, size, g.int64([0, 0, KEY_TOKENS, -1]))
        turned = g.node("Transpose", g.slice(straight, zero, queries, 3), perm=[0, 3, 1, 2])
        return g.slice(g.node("Reshape", turned, g.int64([0, 0, -1])), zero, self._count, 2)


class _Exact:
    """Positions of one kind in FP32, one for each step, which are gathered.

    Args:
        g: the graph.
        table: FP32 [heads, rows, width].
        rows: INT64 [2 * reach], of distances -reach .. reach - 1.
    """

    def __init__(self, g: GraphBuilder, table: Array, rows: NDArray[np.int64]) -> None:
        self._table, self._rows = g.shared("relative.positions", table), rows

    def contents(self, _: GraphBuilder, tokens: str) -> Contents:
        """The tokens as they meet positions: FP32 [heads, n, width]."""
        return (tokens,)

    def at_distances(self, g: GraphBuilder, contents: Contents, begin: str, end: str, reach: int) -> str:
        """FP32 [heads, r, end - begin]: contents [heads, r, width] meet the positions at begin - reach and after.

        No position is farther away than `reach`: the smaller a table is, the faster they are cut out of it.
        """
        return self._met_by(g, contents, g.slice(g.shared("relative.rows", _middle(self._rows, reach)), begin, end))

    def in_windows(self, g: GraphBuilder, contents: Contents, begin: str, end: str) -> str:
        """FP32 [heads, tiles, r, m]: contents [heads, tiles, r, width] meet a window of positions each, see `_windows`.

        Begin and end are INT64 [2], of windows and of the positions in each.
        """
        windows = g.shared("relative.windows", self._rows[_windows(len(self._rows))])
        return self._met_by(g, contents, g.node("Slice", windows, begin, end, g.int64([0, 1])))

    def _met_by(self, g: GraphBuilder, contents: Contents, rows: str) -> str:
        positions = g.node("Gather", self._table, rows, axis=1)
        return g.node("FusedMatMul", *contents, positions, domain=MICROSOFT, transB=1)


class _Rounded(_Exact):
    """Positions of one kind in 8 bits, one for each distance, which are cut out of a table.

    A product takes a third of the time, and gathering columns would take longer than that (ADR 24).
    """

    def __init__(self, g: GraphBuilder, table: Array, rows: NDArray[np.int64]) -> None:
        by_distance = np.asarray(table)[:, rows].transpose(0, 2, 1)
        scale = np.maximum(np.abs(by_distance).max(), np.finfo(np.float32).tiny) / np.float32(127)
        self._integers = np.rint(by_distance / scale).astype(np.int8)
        self._scale = g.constant(np.float32(scale))

    def contents(self, g: GraphBuilder, tokens: str) -> Contents:
        """The tokens, rounded with one scale for the row."""
        return tuple(g.nodes_of("DynamicQuantizeLinear", tokens, outputs=3))

    def at_distances(self, g: GraphBuilder, contents: Contents, begin: str, end: str, reach: int) -> str:
        """See `_Exact`."""
        table = g.shared("relative.rounded", _middle(self._integers, reach))
        return self._met_by(g, contents, g.slice(table, begin, end, 2))

    def in_windows(self, g: GraphBuilder, contents: Contents, begin: str, end: str) -> str:
        """See `_Exact`."""
        places = _windows(self._integers.shape[2])
        windows = g.shared("relative.rounded_windows", self._integers[:, :, places].transpose(0, 2, 1, 3))
        return self._met_by(g, contents, g.node("Slice", windows, begin, end, g.int64([1, 3])))

    def _met_by(self, g: GraphBuilder, contents: Contents, positions: str) -> str:
        integers, scale, zero_point = contents
        operands = (integers, positions, scale, self._scale, zero_point)
        return g.node("MatMulIntegerToFloat", *operands, domain=MICROSOFT)


def rounded_bytes(positions: RelativePositions) -> int:
    """Bytes of a layer's positions in 8 bits."""
    heads, _, width = positions.keys.shape
    distances = 2 * _reach(positions)
    return int(heads * width * (4 * SHORT_TOKENS + distances + _windows(distances).size))


def _reach(positions: RelativePositions) -> int:
    """The largest distance that there are positions for.

    Those of whole tiles, as keys of long rows meet positions a tile at a time: what the last one's surplus meets does
    not matter, and is cut off in the end.
    """
    return -(-max(positions.reach, SHORT_TOKENS) // TILE_TOKENS) * TILE_TOKENS


def _middle(values: NDArray[Number], reach: int) -> NDArray[Number]:
    """The last axis cut to the distances -reach .. reach - 1."""
    middle = values.shape[-1] // 2
    return np.ascontiguousarray(values[..., middle - reach : middle + reach])


def _windows(count: int) -> NDArray[np.int64]:
    """[windows, KEY_TOKENS + TILE_TOKENS], places, of so many distances, of what some keys meet in a tile of queries.

    In each window the keys begin `KEY_TOKENS` further on than in the one before, so that the windows of one tile of
    queries and all keys are next to each other.
    """
    size = KEY_TOKENS + TILE_TOKENS
    first = np.arange(count - size, -1, -KEY_TOKENS)
    return first[:, None] + np.arange(size)


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
