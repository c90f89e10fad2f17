"""Attention over packed rows: each row attends to itself, no pad is computed, and no row meets another.

On a CPU rows run one after the other, short and long ones in different ways: whole products are faster while a row's
scores fit the cache; for longer rows the scores of some queries at a time are enough, so that memory grows with the
length and not with its square. On CUDA one operator takes all rows at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import TensorProto

from conch_export.errors import UnsupportedError
from conch_export.onnx.builder import MICROSOFT, GraphBuilder
from conch_export.onnx.distances import TILE_TOKENS, Tile, score_matrix, score_name, score_tile

if TYPE_CHECKING:
    from conch_export.model.network import Attention
    from conch_export.onnx.ragged import Spans

SHORT_TOKENS = 160
"""Rows up to this length take the plain way; the two cross between 128 and 256 tokens (12 heads of 32, one core)."""


@dataclass(frozen=True)
class Columns:
    """The part of FP32 [T, width] that begins at column `first`."""

    name: str
    first: int = 0


@dataclass(frozen=True)
class Projections:
    """Queries (scaled already), keys and values of all tokens, positions included."""

    query: Columns
    key: Columns
    value: Columns


def attend_row_by_row(g: GraphBuilder, projections: Projections, *, spans: Spans, attention: Attention) -> str:
    """Attend within rows on a CPU; returns FP32 [T, heads * head width]."""
    rows = _Rows(g, projections, spans, attention)
    is_short = g.node("LessOrEqual", g.node("Sub", spans.last, spans.first), g.int64(SHORT_TOKENS))

    def one_row(inner: GraphBuilder, index: str) -> str:
        condition = inner.node("Gather", is_short, index)
        return inner.choose(condition, lambda b: rows.short(b, index), lambda b: rows.long(b, index), TensorProto.FLOAT)

    return g.for_each(g.size(spans.last), one_row, TensorProto.FLOAT, ragged=True)


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
    if not attention.is_plain or attention.rotary or attention.query_norm or spans.unseen:
        message = (
            "only attention without rotary positions, biases, windows, fillers and shared keys is lowered for CUDA"
        )
        raise UnsupportedError(message)
    counts = g.node("Sub", spans.last, spans.first)
    ends = g.node("Concat", g.int64([0]), spans.last, axis=0)
    parts = g.split(query_key_value, 3, axis=1)
    return g.node(
        "PackedMultiHeadAttention",
        *parts,
        "",
        g.cast(_padded_offsets(g, counts), TensorProto.INT32),
        g.cast(ends, TensorProto.INT32),
        domain=MICROSOFT,
        num_heads=attention.heads,
        scale=1.0,
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
    share keys, [key heads, queries of each, n, width], with a 1 in that place for keys and values.
    """

    def __init__(self, g: GraphBuilder, projections: Projections, spans: Spans, attention: Attention) -> None:
        self._attention = attention
        first, last = g.column(spans.first), g.column(spans.last)
        keys_end = g.column(spans.unseen) if spans.unseen else last
        self._counts = g.node("Sub", last, first)
        self._key_counts = g.node("Sub", keys_end, first) if spans.unseen else self._counts
        counts = (self._counts, self._key_counts)
        self._corners = g.node("Concat", *counts, axis=1) if attention.knows_distances else None
        width, shared = attention.head_width, attention.heads // attention.key_heads
        self._grouped = shared > 1
        self._parts = []
        for columns, end, heads, group in (
            (projections.query, last, attention.heads, shared),
            (projections.key, keys_end, attention.key_heads, 1),
            (projections.value, keys_end, attention.key_heads, 1),
        ):
            begins = _corner(g, first, columns.first)
            ends = _corner(g, end, columns.first + heads * width)
            self._parts.append((columns.name, begins, ends, group))

    def short(self, g: GraphBuilder, index: str) -> str:
        """softmax(q k + bias) v, all of it at once."""
        query, key, value = self._query(g, index), self._key(g, index), self._value(g, index)
        return self._context(g, self._weights(g, g.node("MatMul", query, key), self._corner_of_scores(g, index)), value)

    def long(self, g: GraphBuilder, index: str) -> str:
        """The same without ever holding all scores."""
        return self._fused(g, index) if self._attention.is_plain else self._tiled(g, index)

    def _fused(self, g: GraphBuilder, index: str) -> str:
        parts = [g.line(self._slice(g, index, part)) for part in range(3)]
        heads = self._attention.heads
        context = g.node("MultiHeadAttention", *parts, domain=MICROSOFT, num_heads=heads, scale=1.0)
        return g.node("Squeeze", context, g.int64([0]))

    def _tiled(self, g: GraphBuilder, index: str) -> str:
        query, key, value = self._query(g, index), self._key(g, index), self._value(g, index)
        count, key_count = (g.node("Gather", counts, index) for counts in (self._counts, self._key_counts))
        tiles = g.node("Div", g.node("Add", count, g.int64([TILE_TOKENS - 1])), g.int64([TILE_TOKENS]))

        def one_tile(inner: GraphBuilder, tile: str) -> str:
            begin = inner.node("Mul", inner.line(tile), inner.int64([TILE_TOKENS]))
            end = inner.node("Min", inner.node("Add", begin, inner.int64([TILE_TOKENS])), count)
            key_begin, key_end = self._visible(inner, begin, end, key_count)
            scores = inner.node(
                "MatMul", _slice(inner, query, begin, end, axis=-2), _slice(inner, key, key_begin, key_end, axis=-1)
            )
            added = score_tile(inner, self._attention, Tile(begin, end, key_begin, key_end))
            weights = self._weights(inner, scores, added)
            return self._context(inner, weights, _slice(inner, value, key_begin, key_end, axis=-2))

        return g.for_each(g.node("Squeeze", tiles), one_tile, TensorProto.FLOAT, ragged=True)

    def _visible(self, g: GraphBuilder, begin: str, end: str, count: str) -> tuple[str, str]:
        """From which key to which one the queries begin .. end - 1 can see."""
        first, last = g.int64([0]), count
        if self._attention.window is not None:
            reach = g.int64([self._attention.window])
            first = g.node("Max", g.node("Sub", begin, reach), first)
            last = g.node("Min", g.node("Add", end, reach), count)
        return first, g.node("Min", end, count) if self._attention.causal else last

    def _corner_of_scores(self, g: GraphBuilder, index: str) -> str | None:
        if self._corners is None:
            return None
        scores = g.constant(score_matrix(self._attention, SHORT_TOKENS), score_name(self._attention))
        return g.node("Slice", scores, g.int64([0, 0]), g.node("Gather", self._corners, index), g.int64([1, 2]))

    @staticmethod
    def _weights(g: GraphBuilder, scores: str, added: str | None) -> str:
        return g.node("Softmax", g.node("Add", scores, added) if added else scores, axis=-1)

    def _context(self, g: GraphBuilder, weights: str, value: str) -> str:
        order = [2, 0, 1, 3] if self._grouped else [1, 0, 2]
        context = g.node("Transpose", g.node("MatMul", weights, value), perm=order)
        return g.node("Reshape", context, g.int64([0, -1]))

    def _query(self, g: GraphBuilder, index: str) -> str:
        return self._by_head(g, index, 0, [1, 2, 0, 3] if self._grouped else [1, 0, 2])

    def _key(self, g: GraphBuilder, index: str) -> str:
        return self._by_head(g, index, 1, [1, 2, 3, 0] if self._grouped else [1, 2, 0])

    def _value(self, g: GraphBuilder, index: str) -> str:
        return self._by_head(g, index, 2, [1, 2, 0, 3] if self._grouped else [1, 0, 2])

    def _by_head(self, g: GraphBuilder, index: str, part: int, order: list[int]) -> str:
        group, width = self._parts[part][3], self._attention.head_width
        shape = [0, self._attention.key_heads, group, width] if self._grouped else [0, self._attention.heads, width]
        return g.node("Transpose", g.node("Reshape", self._slice(g, index, part), g.int64(shape)), perm=order)

    def _slice(self, g: GraphBuilder, index: str, part: int) -> str:
        name, begins, ends, _ = self._parts[part]
        begin, end = (g.node("Gather", corner, index) for corner in (begins, ends))
        return g.node("Slice", name, begin, end, g.int64([0, 1]))


def _corner(g: GraphBuilder, rows: str, column: int) -> str:
    return g.node("Concat", rows, g.node("Expand", g.int64([[column]]), g.node("Shape", rows)), axis=1)


def _slice(g: GraphBuilder, x: str, begin: str, end: str, *, axis: int) -> str:
    return g.node("Slice", x, begin, end, g.int64([axis]))
