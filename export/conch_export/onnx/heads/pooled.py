"""One vector from those of tokens, and layers after it: embeddings of texts and chunks, and logits of classifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from conch_export.model.description import Pooling
from conch_export.onnx.heads.frame import Frame, through
from conch_export.onnx.layout import CHUNK_ENDS, count_at_most, lengths_name
from conch_export.onnx.ragged import Spans, after_prompts, for_each_row

if TYPE_CHECKING:
    from conch_export.model.heads import Pooled
    from conch_export.onnx.builder import GraphBuilder
    from conch_export.onnx.graph import Graph


def pooled_graph(hidden: int, head: Pooled, output: str, width: int) -> Graph:
    """Token embeddings to FP32 [R, width], called `output`."""
    frame = Frame(hidden)
    if head.pools_prompt:
        spans, x = frame.rows()
    else:
        layout, tokens, x = frame.locate()
        spans = after_prompts(frame.g, layout, tokens)
    vectors = for_each_row(frame.g, spans, lambda inner, *span: _pool(inner, x, span, head.pooling), ragged=False)
    frame.give(output, through(frame.g, vectors, head.layers))
    return frame.finish("pooled", (output, TensorProto.FLOAT, ["R", width]))


def chunks_graph(hidden: int, head: Pooled, width: int) -> Graph:
    """Token embeddings to FP32 [M, width], the vector of every chunk of every row (Günther et al. 2024, late chunking).

    The chunks of a row follow one another from its first token on, special tokens included. NaN for a chunk without
    tokens (pads of `chunk_ends` are such), or that ends beyond its row.
    """
    frame = Frame(hidden)
    g, (layout, tokens, x) = frame.g, frame.locate()
    ends = frame.take(CHUNK_ENDS, TensorProto.INT64, "M")
    counts = g.cast(frame.take(lengths_name(CHUNK_ENDS), TensorProto.INT32, "R"), TensorProto.INT64)
    # One more chunk, of the last row, so that there is one to compute where no row has any.
    padded = g.node("Concat", ends, g.int64([0]), axis=0)
    row_ends = g.cumsum(counts)
    places = g.arange(g.size(padded))
    rows = g.node("Min", count_at_most(g, row_ends, places), g.node("Sub", g.size(row_ends), g.int64(1)))
    opens = g.node("Equal", places, g.node("Gather", g.node("Sub", row_ends, counts), rows))
    before = g.node("Concat", g.int64([0]), ends, axis=0)
    begins = g.node("Where", opens, g.int64(0), before)
    # Rows without slots have no place among those that are computed, and their chunks no tokens.
    places_of_rows = g.node("Gather", layout.places, rows)
    known = g.node("Less", places_of_rows, g.size(layout.ends))
    kept = g.node("Where", known, places_of_rows, g.int64(0))
    first, last = (g.node("Gather", side, kept) for side in (tokens.spans.first, tokens.spans.last))
    begin, end = g.node("Add", first, begins), g.node("Add", first, padded)
    fits = g.node("And", g.node("GreaterOrEqual", begin, first), g.node("LessOrEqual", end, last))
    is_chunk = g.node("And", known, g.node("And", fits, g.node("Less", begin, end)))
    spans = Spans(*(g.node("Where", is_chunk, side, g.int64(place)) for side, place in ((begin, 0), (end, 1))))
    vectors = for_each_row(g, spans, lambda inner, *span: _pool(inner, x, span, head.pooling), ragged=False)
    answer = g.node("Where", g.column(is_chunk), through(g, vectors, head.layers), g.constant(np.float32(np.nan)))
    g.node("Slice", answer, g.int64([0]), g.node("Shape", ends), g.int64([0]), name="embeddings")
    return frame.finish("chunks", ("embeddings", TensorProto.FLOAT, ["M", width]))


def _pool(g: GraphBuilder, x: str, span: tuple[str, str], pooling: Pooling) -> str:
    (first, last), one, axis = span, g.int64([1]), g.int64([0])
    if pooling is Pooling.CLS:
        return g.node("Squeeze", g.slice(x, first, g.node("Add", first, one)), axis)
    if pooling is Pooling.LAST:
        return g.node("Squeeze", g.slice(x, g.node("Sub", last, one), last), axis)
    row = g.slice(x, first, last)
    if pooling in (Pooling.MEAN, Pooling.MAX):
        return g.node("ReduceMean" if pooling is Pooling.MEAN else "ReduceMax", row, axis, keepdims=0)
    count = g.node("Sub", last, first)
    if pooling is Pooling.MEAN_SQRT_LENGTH:
        root = g.node("Sqrt", g.cast(count, TensorProto.FLOAT))
        return g.node("Div", g.node("ReduceSum", row, axis, keepdims=0), root)
    ordinals = g.node("Range", g.int64(1), g.node("Squeeze", g.node("Add", count, one)), g.int64(1))
    weights = g.cast(g.column(ordinals), TensorProto.FLOAT)
    total = g.node("ReduceSum", g.node("Mul", row, weights), axis, keepdims=0)
    return g.node("Div", total, g.node("ReduceSum", weights, keepdims=0))
