"""Late interaction: a query and documents compared token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from conch_export.model.heads import Projection
from conch_export.onnx.heads.frame import Frame
from conch_export.onnx.ragged import query_rows, slice_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from conch_export.onnx.builder import GraphBuilder

REQUEST_ELEMENTS = "request_elements"
_NO_MATCH = -2.0
"""Below every cosine: what a document's token that does not count has in common with any query."""


def maxsim_graph(hidden: int, head: Projection | None = None, skipped: Sequence[int] = ()) -> onnx.ModelProto:
    """Row 0 of every request is the query, each other row a document.

    score = mean over the query's tokens of the largest cosine to any token of the document (Khattab and Zaharia 2020,
    ColBERT, there a sum), hence in [-1, 1]. Row 0 gets the query's score with itself.

    Args:
        hidden: width of the encoder's token vectors.
        head: layers before the comparison.
        skipped: ids of tokens that do not count in documents (punctuation); with any, the graph takes `input_ids`.
    """
    frame = Frame(hidden, takes_ids=bool(skipped))
    g, spans = frame.g, frame.tokens.spans
    x = frame.steps(frame.x, (head or Projection()).whole)
    penalty = _penalties(frame, skipped) if skipped else None
    queries = query_rows(g, frame.layout, frame.take(REQUEST_ELEMENTS, TensorProto.INT32, "Q"))
    sides = (spans.first, spans.last)
    ends = [g.column(g.node("Gather", side, queries)) for side in sides] + [g.column(side) for side in sides]

    def one_row(inner: GraphBuilder, index: str) -> str:
        query_begin, query_end, begin, end = (inner.node("Gather", side, index) for side in ends)
        document = inner.node("Transpose", slice_rows(inner, x, begin, end), perm=[1, 0])
        cosines = inner.node("MatMul", slice_rows(inner, x, query_begin, query_end), document)
        if penalty is not None:
            cosines = inner.node("Add", cosines, inner.line(slice_rows(inner, penalty, begin, end)))
        best = inner.node("ReduceMax", cosines, inner.int64([1]), keepdims=0)
        return inner.node("ReduceMean", best, inner.int64([0]), keepdims=1)

    frame.give("score", g.for_each(g.size(spans.last), one_row, TensorProto.FLOAT, ragged=False))
    return frame.finish("maxsim", ("score", TensorProto.FLOAT, ["R", 1]))


def _penalties(frame: Frame, skipped: Sequence[int]) -> str:
    """FP32 [T]: what is added to the cosines of each token."""
    g = frame.g
    matches = g.node("Equal", g.column(frame.ids), g.constant(np.asarray([skipped], np.int64), "skipped"))
    hits = g.node("ReduceMax", g.cast(matches, TensorProto.FLOAT), g.int64([1]), keepdims=0)
    return g.node("Mul", hits, g.constant(np.float32(_NO_MATCH)))
