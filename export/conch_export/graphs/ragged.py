"""From what Triton's ragged batching delivers to the real tokens, and back. Hides every index computation.

Triton concatenates the flattened [rows, length] matrices of all merged requests, each padded to its own length, and
adds the padded length of every row (`BATCH_ITEM_SHAPE_FLATTEN`). With N slots in R rows, of which T hold a real token:

    attention_mask  INT64 [N]   1 = real token, 2 = one at the end of its row that no other attends to
    row_lengths     INT32 [R]   padded length of every row
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import TensorProto

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conch_export.graphs.builder import GraphBuilder

ROW_LENGTHS = "row_lengths"


@dataclass(frozen=True)
class Spans:
    """Names, in a graph, of where each row's tokens begin and end.

    Attributes:
        first: INT64 [R], the first token of every row.
        last: INT64 [R], one past its last token.
        unseen: INT64 [R], the first of its tokens that no other attends to; None where there are no such tokens.
    """

    first: str
    last: str
    unseen: str | None = None


@dataclass(frozen=True)
class Tokens:
    """Names, in a graph, of where the real tokens are. Every row has at least one: see `malformed`.

    Attributes:
        slots: INT64 [T], the slot of every real token.
        slot_rows: INT64 [N], the row that every slot belongs to.
        rows: INT64 [T], the row it belongs to.
        positions: INT64 [T], its index among the real tokens of its row (padding on either side changes nothing).
        spans: from where to where each row's tokens go.
        malformed: BOOL [R], whether the row had no token (its first slot stands in for one) or more than `max_length`
            (the excess is dropped, so that a row cannot cost more than that).
    """

    slots: str
    slot_rows: str
    rows: str
    positions: str
    spans: Spans
    malformed: str


def locate_tokens(g: GraphBuilder, max_length: int | None = None, *, unseen: bool = False) -> Tokens:
    """Find the real tokens from `attention_mask` and `row_lengths`.

    Args:
        g: the graph.
        max_length: most tokens of a row.
        unseen: whether a mask of 2 means more than one of 1.
    """
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
    first = g.node("Sub", last, counts)
    return Tokens(
        slots=slots,
        slot_rows=slot_rows,
        rows=g.node("Gather", slot_rows, slots),
        positions=g.node("Gather", ranks, slots),
        spans=Spans(first, last, _unseen(g, slot_rows, first, counts) if unseen else None),
        malformed=malformed,
    )


def _unseen(g: GraphBuilder, slot_rows: str, first: str, counts: str) -> str:
    """The first token of every row that no other attends to; its first one is always attended to."""
    seen = g.cast(g.node("Equal", "attention_mask", g.int64(1)), TensorProto.INT64)
    seen_counts = g.node("Min", _sum_by_row(g, seen, slot_rows, counts), counts)
    return g.node("Add", first, g.node("Max", seen_counts, g.int64(1)))


def any_by_row(g: GraphBuilder, flags: str, tokens: Tokens) -> str:
    """BOOL [T] to BOOL [R]: whether any token of the row has the flag."""
    hits = _sum_by_row(g, g.cast(flags, TensorProto.INT64), tokens.rows, tokens.spans.last)
    return g.node("Greater", hits, g.int64(0))


def slice_rows(g: GraphBuilder, x: str, begin: str, end: str) -> str:
    """Elements begin .. end - 1 of `x` along its first axis; begin and end are of shape [1]."""
    return g.node("Slice", x, begin, end, g.int64([0]))


def for_each_row(g: GraphBuilder, spans: Spans, body: Callable[[GraphBuilder, str, str], str], *, ragged: bool) -> str:
    """Run `body(builder, first, last)` for every row; see `GraphBuilder.for_each` for what becomes of the results.

    First and last are of shape [1].
    """
    firsts, lasts = g.column(spans.first), g.column(spans.last)

    def one_row(inner: GraphBuilder, index: str) -> str:
        return body(inner, inner.node("Gather", firsts, index), inner.node("Gather", lasts, index))

    return g.for_each(g.size(spans.last), one_row, TensorProto.FLOAT, ragged=ragged)


def for_each_chunk(
    g: GraphBuilder,
    spans: Spans,
    vectors: Sequence[str],
    chunk_tokens: int,
    body: Callable[[GraphBuilder, Sequence[str], Spans], str],
) -> str:
    """Run `body` on chunks of whole rows and concatenate its results.

    Args:
        g: the graph.
        spans: of the rows; each has at least one token.
        vectors: [T] each, cut along with the rows.
        chunk_tokens: a chunk ends with the row that fills it, so it has fewer tokens than this plus one row's.
        body: called with the builder, the cut vectors and the spans of the chunk's rows, counted from its first token.
    """
    windows = g.node("Div", spans.first, g.int64(chunk_tokens))
    previous = g.node("Concat", g.int64([-1]), g.node("Slice", windows, g.int64([0]), g.int64([-1])), axis=0)
    opens = g.node("Not", g.node("Equal", windows, previous))
    begins = g.node("Transpose", g.node("NonZero", opens), perm=[1, 0])
    followers = g.node("Slice", begins, g.int64([1]), g.int64([2**31]))
    ends = g.node("Concat", followers, g.line(g.node("Shape", windows)), axis=0)

    def one_chunk(inner: GraphBuilder, index: str) -> str:
        begin, end = inner.node("Gather", begins, index), inner.node("Gather", ends, index)
        first, last = (slice_rows(inner, side, begin, end) for side in (spans.first, spans.last))
        origin = inner.node("Gather", spans.first, begin)
        stop = inner.node("Gather", spans.last, inner.node("Sub", end, inner.int64([1])))
        parts = [slice_rows(inner, vector, origin, stop) for vector in vectors]
        unseen = spans.unseen and inner.node("Sub", slice_rows(inner, spans.unseen, begin, end), origin)
        return body(inner, parts, Spans(inner.node("Sub", first, origin), inner.node("Sub", last, origin), unseen))

    return g.for_each(g.node("Size", begins), one_chunk, TensorProto.FLOAT, ragged=True)


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
