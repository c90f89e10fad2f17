"""From the slots of a run to its real tokens, row by row.

Of S slots in C rows (see `layout`), T hold a real token. `attention_mask` says which: 1 is a real token, 2 is a masked
one at the end of its row, which attends to the others and is not attended to, and 3 is one of a prompt at the beginning
of its row, which is computed like the others and left out of the pooling by heads that do that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import TensorProto

from conch_export.model.description import Pooling
from conch_export.onnx.layout import MASK, count_at_most

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conch_export.onnx.builder import GraphBuilder
    from conch_export.onnx.layout import Layout


@dataclass(frozen=True)
class Spans:
    """Names, in a graph, of where each row's tokens begin and end.

    Attributes:
        first: INT64 [C], the first token of every row.
        last: INT64 [C], one past its last token.
        masked: INT64 [C], the first of its masked tokens; None in graphs that know none.
    """

    first: str
    last: str
    masked: str | None = None


@dataclass(frozen=True)
class Tokens:
    """Names, in a graph, of where the real tokens are. Every row has at least one: see `malformed`.

    Attributes:
        slots: INT64 [T], the slot of every real token.
        rows: INT64 [T], the row it belongs to.
        positions: INT64 [T], its index among the real tokens of its row (padding on either side changes nothing).
        spans: where each row's tokens begin and end.
        malformed: BOOL [C], whether the row had no token (its first slot stands in for one) or more than `max_length`
            (the excess is dropped, so that a row cannot cost more than that). Rows whose tensors disagree have none.
    """

    slots: str
    rows: str
    positions: str
    spans: Spans
    malformed: str


def locate_tokens(g: GraphBuilder, layout: Layout, max_length: int | None = None, *, masked: bool = False) -> Tokens:
    """Find the real tokens from `attention_mask`.

    Args:
        g: the graph.
        layout: the rows and their slots.
        max_length: most tokens of a row.
        masked: whether a mask of 2 means more than one of 1.
    """
    slot_rows = layout.slot_rows
    mask = layout.read(MASK, layout.slots, slot_rows)
    # By way of BOOL, so that a mask of 2 counts one token and not two.
    real = g.cast(g.cast(mask, TensorProto.BOOL), TensorProto.INT64)
    found = _sum_by_row(g, real, slot_rows, layout.ends)
    malformed = g.node("Equal", found, g.int64(0))
    # Operators fail on rows without tokens, and a run that fails takes all merged requests with it. So the first slot
    # of such a row counts as its token, and `malformed` says that the row's answer has to be NaN.
    opens = g.node("Equal", layout.slots, g.node("Gather", layout.begins, slot_rows))
    stand_ins = g.node("And", opens, g.node("Gather", malformed, slot_rows))
    real = g.node("Add", real, g.cast(stand_ins, TensorProto.INT64))
    counts = g.node("Max", found, g.int64(1))
    # A token's rank in its row: real tokens before it, less those of all rows before.
    before = g.node("Gather", g.node("Sub", g.cumsum(counts), counts), slot_rows)
    ranks = g.node("Sub", g.node("Sub", g.cumsum(real), real), before)
    if max_length is not None:
        limit = g.int64(max_length)
        # Cut and marked, not refused by an error, which would end the run for everybody. Marked before the cut, since
        # no row exceeds the limit after it.
        malformed = g.node("Or", malformed, g.node("Greater", counts, limit))
        real = g.node("Mul", real, g.cast(g.node("Less", ranks, limit), TensorProto.INT64))
        counts = g.node("Min", counts, limit)
    # NonZero gives ascending slots, so that a row's tokens stay next to each other; it adds an axis, hence Squeeze.
    slots = g.node("Squeeze", g.node("NonZero", real), g.int64([0]))
    last = g.cumsum(counts)
    first = g.node("Sub", last, counts)
    return Tokens(
        slots=slots,
        rows=g.node("Gather", slot_rows, slots),
        positions=g.node("Gather", ranks, slots),
        spans=Spans(first, last, _masked(g, mask, slot_rows, first, counts) if masked else None),
        malformed=malformed,
    )


def _masked(g: GraphBuilder, mask: str, slot_rows: str, first: str, counts: str) -> str:
    """The first masked token of every row; the row's first token never is."""
    seen = g.cast(g.node("Equal", mask, g.int64(1)), TensorProto.INT64)
    # Min, because slots beyond `max_length` are counted here and have been dropped from the row's tokens.
    seen_counts = g.node("Min", _sum_by_row(g, seen, slot_rows, counts), counts)
    # Max, because a row of masked tokens alone needs a key to attend to: attention over no key is an empty axis.
    return g.node("Add", first, g.node("Max", seen_counts, g.int64(1)))


def after_prompts(g: GraphBuilder, layout: Layout, tokens: Tokens) -> Spans:
    """The spans of the rows without their prompts; of a row of nothing else the last token stays."""
    mask = layout.read(MASK, tokens.slots, tokens.rows)
    of_prompt = g.cast(g.node("Equal", mask, g.int64(3)), TensorProto.INT64)
    counts = _sum_by_row(g, of_prompt, tokens.rows, tokens.spans.last)
    return _after(g, tokens.spans, counts)


def after_first_tokens(g: GraphBuilder, spans: Spans) -> Spans:
    """The spans of the rows without their first token; a row of one token keeps it."""
    return _after(g, spans, g.int64(1))


def _after(g: GraphBuilder, spans: Spans, counts: str) -> Spans:
    """The spans without so many tokens at their beginning, of which the last token always stays."""
    # Min, because there is nothing to compute over no token: it is an operation on an empty axis.
    last_token = g.node("Sub", spans.last, g.int64(1))
    return Spans(g.node("Min", g.node("Add", spans.first, counts), last_token), spans.last)


def slot_places(g: GraphBuilder, layout: Layout, slots: str) -> tuple[str, str]:
    """INT64 [S], which of the n vectors of these slots, INT64 [n], every slot holds, n for one of none; and n itself.

    Numbers are scattered instead of vectors; then one Gather, from a table of the vectors and a pad's vector, puts each
    vector into its slot.
    """
    pad = g.size(slots)
    pads = g.node("Expand", pad, g.node("Shape", layout.slots))
    return g.node("ScatterElements", pads, slots, g.arange(pad), axis=0), pad


def of_each_row(g: GraphBuilder, spans: Spans, token: Pooling) -> str:
    """INT64 [C], the first token of every row (`Pooling.CLS`) or its last (`Pooling.LAST`)."""
    return spans.first if token is Pooling.CLS else g.node("Sub", spans.last, g.int64(1))


def all_by_row(g: GraphBuilder, flags: str, tokens: Tokens) -> str:
    """BOOL [T] to BOOL [C]: whether all tokens of the row have the flag."""
    hits = _sum_by_row(g, g.cast(flags, TensorProto.INT64), tokens.rows, tokens.spans.last)
    return g.node("Equal", hits, g.node("Sub", tokens.spans.last, tokens.spans.first))


def for_each_row(g: GraphBuilder, spans: Spans, body: Callable[[GraphBuilder, str, str], str], *, ragged: bool) -> str:
    """Run `body(builder, first, last)` for every row; see `GraphBuilder.for_each`. First and last are of shape [1]."""
    # Columns, because Gather by the loop's scalar index then gives the shape [1] that Slice requires.
    firsts, lasts = g.column(spans.first), g.column(spans.last)

    def one_row(inner: GraphBuilder, index: str) -> str:
        return body(inner, inner.node("Gather", firsts, index), inner.node("Gather", lasts, index))

    return g.for_each(g.size(spans.last), one_row, ragged=ragged)


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
    # A row opens a chunk if its first token is in another window of `chunk_tokens` than that of the row before.
    windows = g.node("Div", spans.first, g.int64(chunk_tokens))
    # No window is -1, so the first row always opens a chunk.
    previous = g.node("Concat", g.int64([-1]), g.slice(windows, g.int64([0]), g.int64([-1])), axis=0)
    opens = g.node("Not", g.node("Equal", windows, previous))
    # [chunks, 1], because Gather by the loop's scalar index then gives the shape [1] that Slice requires.
    begins = g.node("Transpose", g.node("NonZero", opens), perm=[1, 0])
    followers = g.slice(begins, g.int64([1]), g.int64([2**31]))
    ends = g.node("Concat", followers, g.line(g.node("Shape", windows)), axis=0)

    def one_chunk(inner: GraphBuilder, index: str) -> str:
        begin, end = inner.node("Gather", begins, index), inner.node("Gather", ends, index)
        origin = inner.node("Gather", spans.first, begin)
        stop = inner.node("Gather", spans.last, inner.node("Sub", end, inner.int64([1])))
        parts = [inner.slice(vector, origin, stop) for vector in vectors]

        def moved(side: str) -> str:
            return inner.node("Sub", inner.slice(side, begin, end), origin)

        masked = moved(spans.masked) if spans.masked else None
        return body(inner, parts, Spans(moved(spans.first), moved(spans.last), masked))

    return g.for_each(g.node("Size", begins), one_chunk, ragged=True)


def query_rows(g: GraphBuilder, layout: Layout, request_elements: str) -> str:
    """INT64 [C], the first row of the request that each row came with, from every request's element count [Q].

    All rows of a request have the same padded length, so a request has slots in all of its rows or in none.
    """
    request_ends = g.cumsum(g.cast(request_elements, TensorProto.INT64))
    # The last slot of each row, because the end of a row is already the next request's where a request ends with it.
    requests = count_at_most(g, request_ends, g.node("Sub", layout.ends, g.int64(1)))
    # Requests ascend, so the rows of earlier requests are those below a row's own: their number is its first row.
    return count_at_most(g, requests, g.node("Sub", requests, g.int64(1)))


def _sum_by_row(g: GraphBuilder, values: str, rows: str, like: str) -> str:
    """Sums of `values` [n] by their `rows` [n], in the shape of `like` [C]."""
    zeros = g.node("Expand", g.int64(0), g.node("Shape", like))
    # ONNX has no sum by segment; scattering with addition is one, and needs no loop.
    return g.node("ScatterElements", zeros, rows, values, axis=0, reduction="add")
