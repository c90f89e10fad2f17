"""Weights of vocabulary tokens: over the whole vocabulary (SPLADE), or of the text's own tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from conch_export.onnx.heads.frame import Frame, through
from conch_export.onnx.layout import IDS
from conch_export.onnx.ragged import Spans, for_each_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_export.model.heads import Lexical, Vocabulary
    from conch_export.onnx.builder import GraphBuilder
    from conch_export.onnx.graph import Graph

TILE_TOKENS = 64
"""Tokens whose logits are held at a time: with a vocabulary of 250,000 they take 64 MB."""


def vocabulary_graph(hidden: int, head: Vocabulary, tile_tokens: int | None = TILE_TOKENS) -> Graph:
    """Token embeddings to the vocabulary tokens that the text is about, whether they occur in it or not.

    Args:
        hidden: width of the encoder's token vectors.
        head: what to compute.
        tile_tokens: tokens whose logits are held at a time; None for all of a run, outside any loop, as calibration
            needs it to read the product's input.
    """
    frame = Frame(hidden)
    g, (spans, embeddings) = frame.g, frame.rows()
    x = through(g, embeddings, head.layers)
    weight = g.constant(head.decoder.weight, "decoder.weight")
    logits = g.node("MatMul", x, weight) if tile_tokens is None else ""

    def largest(inner: GraphBuilder, vectors: str) -> str:
        return inner.node("ReduceMax", vectors, inner.int64([0]), keepdims=0)

    def one_row(inner: GraphBuilder, first: str, last: str) -> str:
        if tile_tokens is None:
            return largest(inner, inner.slice(logits, first, last))
        row = inner.slice(x, first, last)
        maxima = inner.for_each_tile(
            inner.node("Sub", last, first),
            tile_tokens,
            lambda b, begin, end: largest(b, b.node("MatMul", b.slice(row, begin, end), weight)),
            ragged=False,
        )
        return largest(inner, maxima)

    # The largest logit is taken first: bias, ReLU and logarithm change no order, so they need be computed only for it.
    weights = for_each_row(g, spans, one_row, ragged=False)
    if head.decoder.bias is not None:
        weights = g.node("Add", weights, g.constant(head.decoder.bias, "decoder.bias"))
    weights = g.node("Relu", weights)
    for _ in range(head.logarithms):
        # ONNX has no Log1p.
        weights = g.node("Log", g.node("Add", weights, g.constant(np.float32(1))))
    return _finish(frame, "vocabulary", weights, spans, embeddings)


def lexical_graph(hidden: int, head: Lexical) -> Graph:
    """Token embeddings to the weights of the text's own tokens."""
    frame = Frame(hidden, takes_ids=True)
    g, (layout, tokens, x) = frame.g, frame.locate()
    numbers = g.node("MatMul", x, g.constant(head.output.weight, "output.weight"))
    if head.output.bias is not None:
        numbers = g.node("Add", numbers, g.constant(head.output.bias, "output.bias"))
    numbers = g.node("Relu", g.node("Squeeze", numbers, g.int64([1])))
    ids = layout.read(IDS, tokens.slots, tokens.rows)
    # Ids are out of range only in rows that are refused, and would fail the run for all others.
    ids = g.node("Clip", ids, g.int64(0), g.int64(head.size - 1))
    counts = np.ones(head.size, np.float32)
    counts[list(head.skipped)] = 0
    numbers = g.node("Mul", numbers, g.node("Gather", g.constant(counts, "counts"), ids))
    zeros = g.constant(np.zeros(head.size, np.float32), "zeros")

    def one_row(inner: GraphBuilder, first: str, last: str) -> str:
        parts = [inner.slice(vector, first, last) for vector in (ids, numbers)]
        # After ReLU no number is below 0, so the zeros never win against a token's weight.
        return inner.node("ScatterElements", zeros, *parts, axis=0, reduction="max")

    return _finish(frame, "lexical", for_each_row(g, tokens.spans, one_row, ragged=False), tokens.spans, x)


def _finish(frame: Frame, name: str, weights: str, spans: Spans, x: str) -> Graph:
    """From FP32 [C, vocabulary] to the positive entries of every row, and NaN for refused ones."""
    g = frame.g
    positive = g.cast(g.node("Greater", weights, g.constant(np.float32(0))), TensorProto.INT64)
    most = g.node("ReduceMax", g.node("ReduceSum", positive, g.int64([1]), keepdims=0), g.int64([0]), keepdims=1)
    # At least one column, because refused rows need a place for their NaN.
    count = g.node("Max", most, g.int64([1]))
    values, indices = g.nodes_of("TopK", weights, count, outputs=2, axis=1, sorted=0)
    frame.give("indices", g.cast(indices, TensorProto.INT32), np.int32(0))
    # Refused rows are recognised by the encoder's vectors, because a NaN need not survive the comparisons above.
    firsts = g.node("Gather", x, spans.first)
    refused = g.node("IsNaN", g.node("ReduceSum", firsts, g.int64([1]), keepdims=1))
    frame.give("weights", g.node("Where", refused, g.constant(np.float32(np.nan)), values))
    columns: Sequence[int | str] = ["R", "K"]
    return frame.finish(name, ("indices", TensorProto.INT32, columns), ("weights", TensorProto.FLOAT, columns))
