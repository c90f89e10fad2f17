"""What follows the encoder: pooling, classification, MaxSim. Each is a ragged Triton model of its own.

Every head computes one row at a time. That makes it exact whatever was merged (no sum runs over a neighbour), and a
refused row's NaN stays in that row.

Contract:
    token_embeddings  FP32 [N * hidden], attention_mask INT64 [N], row_lengths INT32 [R]
    request_elements  INT32 [Q], MaxSim only: elements of each merged request's attention_mask
    embedding         FP32 [R, dimension], or score FP32 [R, 1]
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from onnx import TensorProto

from conch_export.graphs.builder import GraphBuilder
from conch_export.graphs.ragged import ROW_LENGTHS, Tokens, for_each_row, locate_tokens, rows_of_requests, slice_rows

if TYPE_CHECKING:
    import onnx

    from conch_export.graphs.network import Linear

REQUEST_ELEMENTS = "request_elements"


class Pooling(str, Enum):
    """How the vectors of a text's tokens become the text's vector."""

    MEAN = "mean"
    CLS = "cls"
    MAX = "max"
    LAST = "last"


@dataclass(frozen=True)
class Classifier:
    """A sequence-classification head on the first token: score = output(tanh(dense(x)))."""

    dense: Linear
    output: Linear


def pooling_graph(hidden: int, pooling: Pooling, *, normalize: bool) -> onnx.ModelProto:
    """Token vectors to one vector a row, of length 1 in the Euclidean norm if `normalize`."""
    g, tokens, x = _start(hidden)
    vectors = for_each_row(g, tokens.spans, lambda inner, *span: _pool(inner, x, span, pooling), ragged=False)
    if normalize:
        g.node("LpNormalization", vectors, name="embedding", axis=1, p=2)
    else:
        g.node("Identity", vectors, name="embedding")
    return _finish(g, "pooling", hidden, ("embedding", hidden))


def classifier_graph(hidden: int, classifier: Classifier) -> onnx.ModelProto:
    """Token vectors to one raw score (logit) a row."""
    g, tokens, x = _start(hidden)
    firsts = for_each_row(g, tokens.spans, lambda inner, *span: _pool(inner, x, span, Pooling.CLS), ragged=False)
    pooled = g.node("Tanh", _linear(g, "dense", classifier.dense, firsts))
    g.node("Identity", _linear(g, "output", classifier.output, pooled), name="score")
    return _finish(g, "classifier", hidden, ("score", 1))


def maxsim_graph(hidden: int) -> onnx.ModelProto:
    """Late interaction: row 0 of every request is the query, each other row a document.

    score = mean over the query's tokens of the largest cosine to any token of the document (Khattab and Zaharia 2020,
    ColBERT, there a sum), hence in [-1, 1]. Row 0 gets the query's score with itself.
    """
    g, tokens, x = _start(hidden)
    x = g.node("LpNormalization", x, axis=1, p=2)
    requests, first_rows = rows_of_requests(g, REQUEST_ELEMENTS)
    query_rows = g.node("Gather", first_rows, requests)
    spans = (tokens.spans.first, tokens.spans.last)
    ends = [g.column(g.node("Gather", side, query_rows)) for side in spans] + [g.column(side) for side in spans]

    def one_row(inner: GraphBuilder, index: str) -> str:
        query_begin, query_end, begin, end = (inner.node("Gather", side, index) for side in ends)
        document = inner.node("Transpose", slice_rows(inner, x, begin, end), perm=[1, 0])
        cosines = inner.node("MatMul", slice_rows(inner, x, query_begin, query_end), document)
        best = inner.node("ReduceMax", cosines, inner.int64([1]), keepdims=0)
        return inner.node("ReduceMean", best, inner.int64([0]), keepdims=1)

    scores = g.for_each(g.size(ROW_LENGTHS), one_row, TensorProto.FLOAT, ragged=False)
    g.node("Identity", scores, name="score")
    return _finish(g, "maxsim", hidden, ("score", 1), by_request=True)


def _start(hidden: int) -> tuple[GraphBuilder, Tokens, str]:
    g = GraphBuilder()
    tokens = locate_tokens(g)
    slots = g.node("Reshape", "token_embeddings", g.int64([-1, hidden]))
    return g, tokens, g.node("Gather", slots, tokens.slots)


def _pool(g: GraphBuilder, x: str, span: tuple[str, str], pooling: Pooling) -> str:
    (first, last), one = span, g.int64([1])
    if pooling is Pooling.CLS:
        return g.node("Squeeze", slice_rows(g, x, first, g.node("Add", first, one)), g.int64([0]))
    if pooling is Pooling.LAST:
        return g.node("Squeeze", slice_rows(g, x, g.node("Sub", last, one), last), g.int64([0]))
    reduce = "ReduceMean" if pooling is Pooling.MEAN else "ReduceMax"
    return g.node(reduce, slice_rows(g, x, first, last), g.int64([0]), keepdims=0)


def _linear(g: GraphBuilder, name: str, linear: Linear, x: str) -> str:
    bias = [] if linear.bias is None else [g.constant(linear.bias, f"{name}.bias")]
    return g.node("Gemm", x, g.constant(linear.weight, f"{name}.weight"), *bias)


def _finish(
    g: GraphBuilder, name: str, hidden: int, output: tuple[str, int], *, by_request: bool = False
) -> onnx.ModelProto:
    inputs: list[tuple[str, int, list[int | str]]] = [
        ("token_embeddings", TensorProto.FLOAT, [f"N*{hidden}"]),
        ("attention_mask", TensorProto.INT64, ["N"]),
        (ROW_LENGTHS, TensorProto.INT32, ["R"]),
    ]
    if by_request:
        inputs.append((REQUEST_ELEMENTS, TensorProto.INT32, ["Q"]))
    return g.model(name, inputs, [(output[0], TensorProto.FLOAT, ["R", output[1]])])
