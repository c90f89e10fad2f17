"""Token vectors as late interaction compares them, and their comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from conch_export.onnx.heads.frame import Frame, through
from conch_export.onnx.layout import IDS, REQUEST_ELEMENTS, VECTORS
from conch_export.onnx.ragged import after_first_tokens, query_rows, slot_places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_export.model.heads import Projection
    from conch_export.onnx.builder import GraphBuilder
    from conch_export.onnx.graph import Graph

_NO_MATCH = -2.0
"""Added to the cosines of a document's token on the skip list: less than -1, so that it never is the best match."""


def projection_graph(hidden: int, head: Projection, width: int) -> Graph:
    """Token embeddings to FP32 [N, width]: zeros at pads, NaN where the encoder refused the row.

    A first token that late interaction leaves out has its vector too: clients leave it out (`ModelInfo.skips_first`).
    """
    frame = Frame(hidden)
    g, (layout, tokens, x) = frame.g, frame.locate()
    pad = g.constant(np.zeros((1, width), np.float32), "pad")
    table = g.node("Concat", through(g, x, head.whole), pad, axis=0)
    places, _ = slot_places(g, layout, tokens.slots)
    g.node("Gather", table, layout.of_leading(places), name=VECTORS)
    return frame.finish("projection", (VECTORS, TensorProto.FLOAT, ["N", width]))


def maxsim_graph(hidden: int, head: Projection, skipped: Sequence[int]) -> Graph:
    """Row 0 of every request is the query, each other row a document.

    score = mean over the query's tokens of the largest cosine to any token of the document (Khattab and Zaharia 2020,
    ColBERT, there a sum), hence in [-1, 1]. Row 0 gets the query's score with itself.

    Args:
        hidden: width of the encoder's token vectors.
        head: layers before the comparison, and whether the first token of every row counts.
        skipped: ids of tokens that do not count in documents (punctuation); with any, the graph takes `input_ids`.
    """
    frame = Frame(hidden, takes_ids=bool(skipped))
    g, (layout, tokens, x) = frame.g, frame.locate()
    x = through(g, x, head.whole)
    penalty = _penalties(g, layout.read(IDS, tokens.slots, tokens.rows), skipped) if skipped else None
    queries = query_rows(g, layout, frame.take(REQUEST_ELEMENTS, TensorProto.INT32, "Q"))
    spans = after_first_tokens(g, tokens.spans) if head.skips_first else tokens.spans
    sides = (spans.first, spans.last)
    ends = [g.column(g.node("Gather", side, queries)) for side in sides] + [g.column(side) for side in sides]

    def one_row(inner: GraphBuilder, index: str) -> str:
        query_begin, query_end, begin, end = (inner.node("Gather", side, index) for side in ends)
        document = inner.node("Transpose", inner.slice(x, begin, end), perm=[1, 0])
        cosines = inner.node("MatMul", inner.slice(x, query_begin, query_end), document)
        if penalty is not None:
            cosines = inner.node("Add", cosines, inner.line(inner.slice(penalty, begin, end)))
        best = inner.node("ReduceMax", cosines, inner.int64([1]), keepdims=0)
        return inner.node("ReduceMean", best, inner.int64([0]), keepdims=1)

    frame.give("score", g.for_each(g.size(tokens.spans.last), one_row, ragged=False))
    return frame.finish("maxsim", ("score", TensorProto.FLOAT, ["R", 1]))


def _penalties(g: GraphBuilder, ids: str, skipped: Sequence[int]) -> str:
    """FP32 [T]: added to the cosines of each token."""
    matches = g.node("Equal", g.column(ids), g.constant(np.asarray([skipped], np.int64), "skipped"))
    hits = g.node("ReduceMax", g.cast(matches, TensorProto.FLOAT), g.int64([1]), keepdims=0)
    return g.node("Mul", hits, g.constant(np.float32(_NO_MATCH)))
