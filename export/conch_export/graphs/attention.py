"""Attention over packed rows: each row attends to itself, no pad is computed, and no row meets another.

On a CPU rows run one after the other, short and long ones in different ways: plain products are faster while a row's
scores fit the cache; for longer rows onnxruntime's fused operator never holds all of them. On CUDA one operator takes
all rows at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from conch_export.graphs.builder import MICROSOFT, GraphBuilder
from conch_export.graphs.ragged import slice_rows

if TYPE_CHECKING:
    from conch_export.graphs.ragged import Spans

SHORT_TOKENS = 160
"""Rows up to this length take the plain way; the two cross between 128 and 256 tokens (12 heads of 32, one core)."""


def attend_row_by_row(g: GraphBuilder, query_key_value: str, *, spans: Spans, heads: int, width: int) -> str:
    """Attend within rows on a CPU.

    Args:
        g: the graph.
        query_key_value: [T, 3 * width], the three side by side, queries scaled already.
        spans: of the rows.
        heads: parts of the width that attend independently.
        width: of query, key and value each.

    Returns:
        [T, width].
    """
    rows = _Rows(g, query_key_value, spans, heads, width)
    is_short = g.node("LessOrEqual", g.node("Sub", spans.last, spans.first), g.int64(SHORT_TOKENS))

    def one_row(inner: GraphBuilder, index: str) -> str:
        condition = inner.node("Gather", is_short, index)
        return inner.choose(
            condition, lambda b: rows.plain(b, index), lambda b: rows.fused(b, index), TensorProto.FLOAT
        )

    return g.for_each(g.size(spans.last), one_row, TensorProto.FLOAT, ragged=True)


def attend_packed(g: GraphBuilder, query_key_value: str, *, spans: Spans, heads: int) -> str:
    """Attend within rows on CUDA, by the operator that takes packed rows; arguments as in `attend_row_by_row`."""
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
        num_heads=heads,
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
    """The rows of one layer; what is the same for all of them is computed once, outside the loop."""

    def __init__(self, g: GraphBuilder, query_key_value: str, spans: Spans, heads: int, width: int) -> None:
        self._packed, self._heads, self._width = query_key_value, heads, width
        self._first, self._last = g.column(spans.first), g.column(spans.last)
        self._corners = [
            (self._corner(g, self._first, part * width), self._corner(g, self._last, (part + 1) * width))
            for part in range(3)
        ]

    def plain(self, g: GraphBuilder, index: str) -> str:
        """softmax(q k) v, head by head."""
        query, key, value = (
            self._part(g, index, part, order) for part, order in enumerate(([1, 0, 2], [1, 2, 0], [1, 0, 2]))
        )
        weights = g.node("Softmax", g.node("MatMul", query, key), axis=-1)
        context = g.node("Transpose", g.node("MatMul", weights, value), perm=[1, 0, 2])
        return g.node("Reshape", context, g.int64([0, -1]))

    def fused(self, g: GraphBuilder, index: str) -> str:
        """The same by onnxruntime's operator, block by block."""
        row = slice_rows(g, self._packed, g.node("Gather", self._first, index), g.node("Gather", self._last, index))
        parts = g.split(g.line(row), 3, axis=2)
        context = g.node("MultiHeadAttention", *parts, domain=MICROSOFT, num_heads=self._heads, scale=1.0)
        return g.node("Squeeze", context, g.int64([0]))

    def _part(self, g: GraphBuilder, index: str, part: int, order: list[int]) -> str:
        begin, end = (g.node("Gather", corner, index) for corner in self._corners[part])
        matrix = g.node("Slice", self._packed, begin, end, g.int64([0, 1]))
        by_head = g.node("Reshape", matrix, g.int64([0, self._heads, self._width // self._heads]))
        return g.node("Transpose", by_head, perm=order)

    @staticmethod
    def _corner(g: GraphBuilder, rows: str, column: int) -> str:
        return g.node("Concat", rows, g.node("Expand", g.int64([[column]]), g.node("Shape", rows)), axis=1)


def query_scale(width: int, heads: int) -> np.float32:
    """What queries are multiplied by before they meet keys: 1 / sqrt(width of a head)."""
    return np.float32((width // heads) ** -0.5)
