"""Attention over packed rows: each row attends to itself, no pad is computed, and no row meets another.

On a CPU rows run one after the other, short and long ones in different ways: whole products are faster while a row's
scores fit the cache; for longer rows the scores of some queries at a time are enough, so that memory grows with the
length and not with its square. So does what is added to the scores by distance (biases, and -inf where a token may not
look): one constant matrix for short rows, tiles of it for long ones. On CUDA one operator takes all rows at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto

from conch_export.errors import UnsupportedError
from conch_export.onnx.builder import MICROSOFT, GraphBuilder
from conch_export.onnx.distances import SHORT_TOKENS, TILE_TOKENS, Tile, short_scores, tile_scores
from conch_export.onnx.ragged import of_each_row
from conch_export.onnx.relative import RelativeScores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_export.model.description import Pooling
    from conch_export.model.network import Attention
    from conch_export.onnx.ragged import Spans

Columns = tuple[str, int]
"""The name of a tensor FP32 [T, width] and the column at which a part begins: parts of a product are not copied out."""


def attend_row_by_row(g: GraphBuilder, parts: Sequence[Columns], *, spans: Spans, attention: Attention) -> str:
    """Attend within rows on a CPU.

    Args:
        g: the graph.
        parts: queries (scaled already), keys and values of all tokens; rotary positions are in them already.
        spans: of the rows.
        attention: what to compute.

    Returns:
        FP32 [T, heads * head width].

    Raises:
        UnsupportedError: rows end in masked tokens, and positions are relative.
    """
    if attention.relative is not None and spans.masked:
        # The authors' code gives such tokens, as queries, the mean of all values.
        raise UnsupportedError("tokens that nothing attends to are not built for disentangled attention")
    rows = _Rows(g, parts, spans, attention)
    is_short = g.node("LessOrEqual", g.node("Sub", spans.last, spans.first), g.int64(SHORT_TOKENS))

    def one_row(inner: GraphBuilder, index: str) -> str:
        condition = inner.node("Gather", is_short, index)
        (context,) = inner.choose(
            condition, lambda b: [rows.short(b, index)], lambda b: [rows.long(b, index)], [TensorProto.FLOAT]
        )
        return context

    return g.for_each(g.size(spans.last), one_row, ragged=True)


def attend_with_one(
    g: GraphBuilder, parts: Sequence[Columns], *, spans: Spans, attention: Attention, token: Pooling
) -> str:
    """Attend from one token of each row, on a CPU.

    Its scores are few however long the row is, so that short and long rows take one way.

    Args:
        g: the graph.
        parts: queries (scaled already) of these tokens, keys and values of all tokens; see `attend_row_by_row`.
        spans: of the rows.
        attention: what to compute, without relative positions.
        token: which one it is, the first (`CLS`) or the last.

    Returns:
        FP32 [C, heads * head width].
    """
    rows = _Rows(g, parts, spans, attention, token)
    return g.for_each(g.size(spans.last), rows.one, ragged=True)


def attend_packed(g: GraphBuilder, query_key_value: str, *, spans: Spans, attention: Attention) -> str:
    """Attend within rows on CUDA, by the operator that takes packed rows.

    Args:
        g: the graph.
        query_key_value: [T, 3 * width], the three side by side, queries scaled already.
        spans: of the rows.
        attention: what to compute.

    Raises:
        UnsupportedError: for attention that is not plain.
    """
    if not attention.is_plain or attention.rotary or attention.query_norm or spans.masked:
        msg = (
            "only attention without rotary and relative positions, biases, windows, masked tokens and shared keys runs "
            "on CUDA"
        )
        raise UnsupportedError(msg)
    counts = g.node("Sub", spans.last, spans.first)
    ends = g.node("Concat", g.int64([0]), spans.last, axis=0)
    parts = g.nodes_of("Split", query_key_value, outputs=3, axis=1, num_outputs=3)
    return g.node(
        "PackedMultiHeadAttention",
        *parts,
        "",  # no bias: it has been added to the joined product
        # The operator wants these offsets although nothing here is padded.
        g.cast(_padded_offsets(g, counts), TensorProto.INT32),
        g.cast(ends, TensorProto.INT32),
        domain=MICROSOFT,
        num_heads=attention.heads,
        scale=1.0,  # the queries are scaled already; by default the operator would do it once more
    )


def _padded_offsets(g: GraphBuilder, counts: str) -> str:
    """[R, longest]: where each real token would lie in a padded matrix, then where the pads would."""
    longest = g.node("ReduceMax", counts, keepdims=0)
    is_real = g.node("Less", g.line(g.arange(longest)), g.column(counts))
    flat = g.node("Reshape", is_real, g.int64([-1]))
    places = [g.node("Squeeze", g.node("NonZero", x), g.int64([0])) for x in (flat, g.node("Not", flat))]
    return g.node("Reshape", g.node("Concat", *places, axis=0), g.node("Shape", is_real))


class _Rows:
    """The rows of one layer; what is the same for all of them is computed once, outside the loop.

    Heads come first: queries are [heads, n, width], keys [heads, width, n], values [heads, n, width]; where query heads
    share keys, [key heads, queries of each, n, width], with a 1 in that place for keys and values, which MatMul
    then broadcasts: no key is copied for the queries that share it. With a token, each row has the query of that one.
    """

    def __init__(
        self,
        g: GraphBuilder,
        parts: Sequence[Columns],
        spans: Spans,
        attention: Attention,
        token: Pooling | None = None,
    ) -> None:
        self._attention = attention
        first, last = g.column(spans.first), g.column(spans.last)
        # Masked tokens are at the end of a row: ending its keys before them hides them, and takes no mask of scores.
        keys_end = g.column(spans.masked) if spans.masked else last
        self._counts = g.node("Sub", last, first)
        self._key_counts = g.node("Sub", keys_end, first) if spans.masked else self._counts
        counts = (self._counts, self._key_counts)
        self._corners = g.node("Concat", *counts, axis=1) if attention.knows_distances else None
        self._relative = None
        if attention.relative is not None:
            self._relative = RelativeScores(g, attention.relative, attention.score_scale, self._counts)
        width, shared = attention.head_width, attention.heads // attention.key_heads
        self._grouped = shared > 1
        self._parts = []
        queries = first, last
        if token is not None:
            number = g.column(g.arange(g.size(spans.last)))
            queries = number, g.node("Add", number, g.int64(1))
            place = g.column(g.node("Sub", of_each_row(g, spans, token), spans.first))
            self._places = place, g.node("Add", place, g.int64(1))
        sides = ((*queries, attention.heads, shared), *[(first, keys_end, attention.key_heads, 1)] * 2)
        for (name, column), (begin, end, heads, group) in zip(parts, sides, strict=True):
            # One Slice cuts rows and columns at once: its corners are [row, column] pairs.
            corners = _corner(g, begin, column), _corner(g, end, column + heads * width)
            self._parts.append((name, *corners, group))

    def short(self, g: GraphBuilder, index: str) -> str:
        """softmax(q k + what is added) v, all of it at once."""
        query, key, value = self._heads_first(g, index)
        added = []
        if self._relative is not None:
            added, key = self._relative.short(g, index, query, key), _columns(g, key)
        if self._corners is not None:
            added.append(short_scores(g, self._attention, g.node("Gather", self._corners, index)))
        return self._context(g, g.node("MatMul", query, key), added, value)

    def one(self, g: GraphBuilder, index: str) -> str:
        """The same of the row's one query."""
        query, key, value = self._heads_first(g, index)
        begin, end, count = (g.node("Gather", each, index) for each in (*self._places, self._key_counts))
        return self._of_tile(g, query, self._tile(g, begin, end, count), key, value)

    def long(self, g: GraphBuilder, index: str) -> str:
        """The same without ever holding all scores."""
        return self._fused(g, index) if self._attention.is_plain else self._tiled(g, index)

    def _fused(self, g: GraphBuilder, index: str) -> str:
        # The operator knows no windows, and takes a bias only as a whole matrix: it is for attention by content alone.
        # Its scale is 1 because the queries are scaled already.
        parts = [g.line(self._slice(g, index, part)) for part in range(3)]
        heads = self._attention.heads
        context = g.node("MultiHeadAttention", *parts, domain=MICROSOFT, num_heads=heads, scale=1.0)
        return g.node("Squeeze", context, g.int64([0]))

    def _tiled(self, g: GraphBuilder, index: str) -> str:
        query, key, value = self._heads_first(g, index)
        count, key_count = (g.node("Gather", counts, index) for counts in (self._counts, self._key_counts))
        relative, keys = None, key
        if self._relative is not None:
            relative, keys = self._relative.tiled(g, query, key, count), _columns(g, key)

        def one_tile(inner: GraphBuilder, begin: str, end: str) -> str:
            tile = self._tile(inner, begin, end, key_count)
            added = () if relative is None else relative(inner, tile)
            return self._of_tile(inner, inner.slice(query, begin, end, -2), tile, keys, value, relative=added)

        return g.for_each_tile(count, TILE_TOKENS, one_tile, ragged=True)

    def _of_tile(
        self, g: GraphBuilder, query: str, tile: Tile, keys: str, values: str, *, relative: Sequence[str] = ()
    ) -> str:
        """FP32 [queries, heads * width]: the queries of a tile meet those keys of their row that they see."""
        seen_keys, seen_values = self._seen(g, tile, keys, values)
        by_distance = tile_scores(g, self._attention, tile)
        added = [*relative, *([] if by_distance is None else [by_distance])]
        return self._context(g, g.node("MatMul", query, seen_keys), added, seen_values)

    def _tile(self, g: GraphBuilder, begin: str, end: str, count: str) -> Tile:
        """The queries begin .. end - 1 of a row with so many keys."""
        # The keys that any query of the tile sees; `tile_scores` hides from single queries those that they do not see.
        first, last = g.int64([0]), count
        if self._attention.window is not None:
            reach = g.int64([self._attention.window])
            first = g.node("Max", g.node("Sub", begin, reach), first)
            last = g.node("Min", g.node("Add", end, reach), count)
        return Tile(begin, end, first, g.node("Min", end, count) if self._attention.causal else last)

    def _seen(self, g: GraphBuilder, tile: Tile, keys: str, values: str) -> tuple[str, str]:
        """The keys [..., width, n] and values [..., n, width] of a row that the tile sees; uncut if it sees all."""
        if self._attention.window is None and not self._attention.causal:
            return keys, values
        return g.slice(keys, tile.key_begin, tile.key_end, -1), g.slice(values, tile.key_begin, tile.key_end, -2)

    def _context(self, g: GraphBuilder, scores: str, added: Sequence[str], value: str) -> str:
        """FP32 [n, heads * width]: softmax(scores and all that is added) v."""
        weights = g.node("Softmax", g.node("Sum", scores, *added) if added else scores, axis=-1)
        order = [2, 0, 1, 3] if self._grouped else [1, 0, 2]
        context = g.node("Transpose", g.node("MatMul", weights, value), perm=order)
        return g.node("Reshape", context, g.int64([0, -1]))

    def _heads_first(self, g: GraphBuilder, index: str) -> list[str]:
        """Queries, keys and values of a row.

        Keys have their width before their tokens, as the product takes them, unless they meet positions first.
        """
        orders = ([1, 2, 0, 3], [1, 2, 3, 0]) if self._grouped else ([1, 0, 2], [1, 2, 0])
        if self._relative is not None:
            orders = ([1, 0, 2], [1, 0, 2])
        attention, found = self._attention, []
        for part, order in enumerate((orders[0], orders[1], orders[0])):
            group, width = self._parts[part][3], attention.head_width
            shape = [0, attention.key_heads, group, width] if self._grouped else [0, attention.heads, width]
            split = g.node("Reshape", self._slice(g, index, part), g.int64(shape))
            found.append(g.node("Transpose", split, perm=order))
        return found

    def _slice(self, g: GraphBuilder, index: str, part: int) -> str:
        name, begins, ends, _ = self._parts[part]
        begin, end = (g.node("Gather", corner, index) for corner in (begins, ends))
        return g.node("Slice", name, begin, end, g.int64([0, 1]))


def _columns(g: GraphBuilder, keys: str) -> str:
    """[heads, n, width] as [heads, width, n]."""
    return g.node("Transpose", keys, perm=[0, 2, 1])


def _corner(g: GraphBuilder, rows: str, column: int) -> str:
    return g.node("Concat", rows, g.node("Expand", g.int64([[column]]), g.node("Shape", rows)), axis=1)
