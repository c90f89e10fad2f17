"""Weights of words: over the whole vocabulary (SPLADE), or of the text's own tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from conch_export.onnx.heads.frame import Frame
from conch_export.onnx.ragged import for_each_row, slice_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from conch_export.model.heads import Lexical, Vocabulary
    from conch_export.onnx.builder import GraphBuilder

TILE_TOKENS = 64
"""Tokens whose logits are held at a time: 250,000 words take 64 MB."""


def vocabulary_graph(hidden: int, head: Vocabulary, tile_tokens: int | None = TILE_TOKENS) -> onnx.ModelProto:
    """Token vectors to the words that the text is about, whether they occur in it or not.

    Args:
        hidden: width of the encoder's token vectors.
        head: what to compute.
        tile_tokens: tokens whose logits are held at a time; None for all of a run, outside any loop.
    """
    frame = Frame(hidden)
    g = frame.g
    x = frame.steps(frame.x, head.steps)
    weight = g.constant(head.decoder.weight, "decoder.weight")

    logits = g.node("MatMul", x, weight) if tile_tokens is None else ""

    def one_row(inner: GraphBuilder, first: str, last: str) -> str:
        if tile_tokens is None:
            return inner.node("ReduceMax", slice_rows(inner, logits, first, last), inner.int64([0]), keepdims=0)
        return _largest(inner, slice_rows(inner, x, first, last), weight, tile_tokens)

    weights = for_each_row(g, frame.tokens.spans, one_row, ragged=False)
    if head.decoder.bias is not None:
        weights = g.node("Add", weights, g.constant(head.decoder.bias, "decoder.bias"))
    weights = g.node("Relu", weights)
    for _ in range(head.logarithms):
        weights = g.node("Log", g.node("Add", weights, g.constant(np.float32(1))))
    return _finish(frame, "vocabulary", weights)


def lexical_graph(hidden: int, head: Lexical) -> onnx.ModelProto:
    """Token vectors to the words of the text."""
    frame = Frame(hidden, takes_ids=True)
    g, tokens = frame.g, frame.tokens
    numbers = g.node("MatMul", frame.x, g.constant(head.output.weight, "output.weight"))
    if head.output.bias is not None:
        numbers = g.node("Add", numbers, g.constant(head.output.bias, "output.bias"))
    numbers = g.node("Relu", g.node("Squeeze", numbers, g.int64([1])))
    # Out of range only in rows that are refused.
    ids = g.node("Clip", frame.ids, g.int64(0), g.int64(head.size - 1))
    counts = np.ones(head.size, np.float32)
    counts[list(head.skipped)] = 0
    numbers = g.node("Mul", numbers, g.node("Gather", g.constant(counts, "counts"), ids))
    zeros = g.constant(np.zeros(head.size, np.float32), "zeros")

    def one_row(inner: GraphBuilder, first: str, last: str) -> str:
        parts = [slice_rows(inner, vector, first, last) for vector in (ids, numbers)]
        return inner.node("ScatterElements", zeros, *parts, axis=0, reduction="max")

    return _finish(frame, "lexical", for_each_row(g, tokens.spans, one_row, ragged=False))


def _largest(g: GraphBuilder, row: str, weight: str, tile_tokens: int) -> str:
    """FP32 [n, hidden] to the largest product of any token with each column of `weight`, some tokens at a time."""
    count = g.node("Slice", g.node("Shape", row), g.int64([0]), g.int64([1]))
    tiles = g.node("Div", g.node("Add", count, g.int64([tile_tokens - 1])), g.int64([tile_tokens]))

    def one_tile(inner: GraphBuilder, tile: str) -> str:
        begin = inner.node("Mul", inner.line(tile), inner.int64([tile_tokens]))
        part = slice_rows(inner, row, begin, inner.node("Add", begin, inner.int64([tile_tokens])))
        return inner.node("ReduceMax", inner.node("MatMul", part, weight), inner.int64([0]), keepdims=0)

    maxima = g.for_each(g.node("Squeeze", tiles), one_tile, TensorProto.FLOAT, ragged=False)
    return g.node("ReduceMax", maxima, g.int64([0]), keepdims=0)


def _finish(frame: Frame, name: str, weights: str) -> onnx.ModelProto:
    """From FP32 [C, words] to the positive entries of every row, and NaN for refused ones."""
    g = frame.g
    positive = g.cast(g.node("Greater", weights, g.constant(np.float32(0))), TensorProto.INT64)
    most = g.node("ReduceMax", g.node("ReduceSum", positive, g.int64([1]), keepdims=0), g.int64([0]), keepdims=1)
    values, places = g.largest(weights, g.node("Max", most, g.int64([1])))
    frame.give("indices", g.cast(places, TensorProto.INT32), np.int32(0))
    # Of the encoder's vectors, because a NaN need not outlive the comparisons above.
    firsts = g.node("Gather", frame.x, frame.tokens.spans.first)
    refused = g.node("IsNaN", g.node("ReduceSum", firsts, g.int64([1]), keepdims=1))
    frame.give("weights", g.node("Where", refused, g.constant(np.float32(np.nan)), values))
    columns: Sequence[int | str] = ["R", "K"]
    return frame.finish(name, ("indices", TensorProto.INT32, columns), ("weights", TensorProto.FLOAT, columns))
