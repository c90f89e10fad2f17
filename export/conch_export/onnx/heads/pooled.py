"""One vector of a text from those of its tokens, and layers after it: embeddings, and scores of cross-encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto

from conch_export.model.description import Pooling
from conch_export.onnx.heads.frame import Frame
from conch_export.onnx.ragged import for_each_row

if TYPE_CHECKING:
    from conch_export.model.heads import Pooled
    from conch_export.onnx.builder import GraphBuilder
    from conch_export.onnx.graph import Graph


def pooled_graph(hidden: int, head: Pooled, output: str, width: int) -> Graph:
    """Token embeddings to FP32 [R, width], called `output`."""
    frame = Frame(hidden)
    spans, x = frame.rows()
    vectors = for_each_row(frame.g, spans, lambda inner, *span: _pool(inner, x, span, head.pooling), ragged=False)
    frame.give(output, frame.through(vectors, head.layers))
    return frame.finish("pooled", (output, TensorProto.FLOAT, ["R", width]))


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
