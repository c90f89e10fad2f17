"""From what Triton's ragged batching delivers to the real tokens, and back. Hides every index computation.

Triton concatenates the flattened [rows, length] matrices of all merged requests, each padded to its own length, and
adds the padded length of every row (`BATCH_ITEM_SHAPE_FLATTEN`). With N slots in R rows, of which T hold a real token:

    attention_mask  INT64 [N]   1 = real token
    row_lengths     INT32 [R]   padded length of every row
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import TensorProto

if TYPE_CHECKING:
    from conch_export.graphs.builder import GraphBuilder

ROW_LENGTHS = "row_lengths"


@dataclass(frozen=True)
class Tokens:
    """Names, in a graph, of where the real tokens are. Every row has at least one: see `malformed`.

    Attributes:
        slots: INT64 [T], the slot of every real token.
        rows: INT64 [T], the row it belongs to.
        positions: INT64 [T], its index among the real tokens of its row (padding on either side changes nothing).
        first: INT64 [R], the first token of every row.
        last: INT64 [R], one past its last token.
        malformed: BOOL [R], whether the row had no token (its first slot stands in for one) or more than `max_length`
            (the excess is dropped, so that a row cannot cost more than that).
    """

    slots: str
    rows: str
    positions: str
    first: str
    last: str
    malformed: str


def locate_tokens(g: GraphBuilder, max_length: int | None = None) -> Tokens:
    """Find the real tokens from `attention_mask` and `row_lengths`."""
    real = g.cast(g.cast("attention_mask", TensorProto.BOOL), TensorProto.INT64)
    lengths = g.cast(ROW_LENGTHS, TensorProto.INT64)
    ends = g.cumsum(lengths)
    slots = g.arange(g.size("attention_mask"))
    slot_rows = _count_at_most(g, ends, slots)
    malformed = g.node("Equal", _sum_by_row(g, real, slot_rows, ends), g.int64(0))
    opens = g.node("Equal", slots, g.node("Gather", g.node("Sub", ends, lengths), slot_rows))
    stand_ins = g.node("And", opens, g.node("Gather", malformed, slot_rows))
    real = g.node("Add", real, g.cast(stand_ins, TensorProto.INT64))
    counts = _sum_by_row(g, real, slot_rows, ends)
    before = g.node("Gather", g.node("Sub", g.cumsum(counts), counts), slot_rows)
    ranks = g.node("Sub", g.node("Sub", g.cumsum(real), real), before)
    if max_length is not None:
        limit = g.int64(max_length)
        malformed = g.node("Or", malformed, g.node("Greater", counts, limit))
        real = g.node("Mul", real, g.cast(g.node("Less", ranks, limit), TensorProto.INT64))
        counts = g.node("Min", counts, limit)
    slots = g.node("Squeeze", g.node("NonZero", real), g.int64([0]))
    last = g.cumsum(counts)
    return Tokens(
        slots=slots,
        rows=g.node("Gather", slot_rows, slots),
        positions=g.node("Gather", ranks, slots),
        first=g.node("Sub", last, counts),
        last=last,
        malformed=malformed,
    )


def any_by_row(g: GraphBuilder, flags: str, tokens: Tokens) -> str:
    """BOOL [T] to BOOL [R]: whether any token of the row has the flag."""
    hits = _sum_by_row(g, g.cast(flags, TensorProto.INT64), tokens.rows, tokens.last)
    return g.node("Greater", hits, g.int64(0))


def slice_row(g: GraphBuilder, x: str, begin: str, end: str) -> str:
    """Rows begin .. end - 1 of the matrix `x`; begin and end are scalars."""
    return g.node("Slice", x, g.line(begin), g.line(end), g.int64([0]))


def rows_of_requests(g: GraphBuilder, request_elements: str) -> tuple[str, str]:
    """Which merged request each row belongs to, from every request's element count (`BATCH_ELEMENT_COUNT`).

    Returns:
        INT64 [R], the request of every row, and INT64 [Q], the first row of every request.
    """
    ends = g.cumsum(g.cast(ROW_LENGTHS, TensorProto.INT64))
    request_ends = g.cumsum(g.cast(request_elements, TensorProto.INT64))
    last_slots = g.node("Sub", ends, g.int64(1))
    requests = _count_at_most(g, request_ends, last_slots)
    ones = g.node("Expand", g.int64(1), g.node("Shape", requests))
    rows = _sum_by_row(g, ones, requests, request_ends)
    return requests, g.node("Sub", g.cumsum(rows), rows)


def _count_at_most(g: GraphBuilder, limits: str, values: str) -> str:
    """For every value the number of (ascending) limits that are not above it."""
    passed = g.node("GreaterOrEqual", g.column(values), g.line(limits))
    return g.node("ReduceSum", g.cast(passed, TensorProto.INT64), g.int64([1]), keepdims=0)


def _sum_by_row(g: GraphBuilder, values: str, rows: str, like: str) -> str:
    """Sums of `values` [T] by their `rows` [T], in the shape of `like` [R]."""
    zeros = g.node("Expand", g.int64(0), g.node("Shape", like))
    return g.node("ScatterElements", zeros, rows, values, axis=0, reduction="add")
