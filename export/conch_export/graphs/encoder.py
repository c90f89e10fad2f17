"""A transformer encoder as a padding-free graph, built from a description that knows no framework.

Only the T real tokens are computed: every token-wise operator works on [T, hidden], and attention runs row by row (on a
CPU a padded [rows, longest] attention costs 2 to 5 times as much on mixed lengths). A large batch runs in chunks of
whole rows that fit a core's cache, so its size costs neither speed nor memory.

Contract (see `ragged` for the layout):
    input_ids         INT64 [N]
    attention_mask    INT64 [N]
    token_type_ids    INT64 [N], only where the caller asks for segments
    row_lengths       INT32 [R]
    token_embeddings  FP32 [N, hidden], zeros at pads; all NaN for a row that holds an id outside the vocabulary, no
                      token at all or more than `max_length`. The graph itself cannot fail, so no row harms another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from conch_export.graphs.builder import MICROSOFT, GraphBuilder
from conch_export.graphs.ragged import (
    ROW_LENGTHS,
    Spans,
    Tokens,
    any_by_row,
    for_each_chunk,
    for_each_row,
    locate_tokens,
    slice_rows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    from numpy.typing import NDArray


CHUNK_TOKENS = 512
"""About as many tokens as a core's second-level cache holds activations for; measured, see docs/adr."""


@dataclass(frozen=True)
class Linear:
    """y = x @ weight + bias; weight is [inputs, outputs]."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class Norm:
    """Layer normalisation over the last axis."""

    scale: NDArray[np.float32]
    bias: NDArray[np.float32]
    epsilon: float


@dataclass(frozen=True)
class Layer:
    """One post-norm block: attention, add and norm, feed-forward, add and norm."""

    query: Linear
    key: Linear
    value: Linear
    attention_output: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    output_norm: Norm


@dataclass(frozen=True)
class Encoder:
    """What an encoder computes, weights included.

    Attributes:
        words: [vocabulary, hidden].
        positions: [max_length, hidden], entry i for the i-th real token of a row.
        types: [segments, hidden]; row 0 is for text without segments.
        norm: applied to the sum of the embeddings.
        layers: from input to output.
        heads: attention heads of every layer.
    """

    words: NDArray[np.float32]
    positions: NDArray[np.float32]
    types: NDArray[np.float32]
    norm: Norm
    layers: tuple[Layer, ...]
    heads: int

    @property
    def hidden(self) -> int:
        """Width of a token's vector."""
        return int(self.words.shape[1])

    @property
    def max_length(self) -> int:
        """Most tokens that a row may have, special tokens included."""
        return int(self.positions.shape[0])


def encoder_graph(
    encoder: Encoder, *, segments: bool = False, chunk_tokens: int | None = CHUNK_TOKENS
) -> onnx.ModelProto:
    """The encoder as an ONNX model.

    Args:
        encoder: what to compute.
        segments: take `token_type_ids` as an input; otherwise every token is of type 0.
        chunk_tokens: about how many tokens are computed at a time; None computes all at once, without a loop around the
            layers.
    """
    g = GraphBuilder()
    tokens = locate_tokens(g, max_length=encoder.max_length)
    ids = g.node("Gather", "input_ids", tokens.slots)
    indices = [_clamp(g, ids, encoder.words.shape[0]), tokens.positions]
    if segments:
        indices.append(_clamp(g, g.node("Gather", "token_type_ids", tokens.slots), encoder.types.shape[0]))
    if chunk_tokens is None:
        x = _layers(g, encoder, indices, tokens.spans)
    else:
        x = for_each_chunk(g, tokens.spans, indices, chunk_tokens, lambda inner, *part: _layers(inner, encoder, *part))
    refused = g.node("Or", any_by_row(g, _unknown(g, ids, encoder.words.shape[0]), tokens), tokens.malformed)
    x = g.node("Where", g.column(g.node("Gather", refused, tokens.rows)), g.constant(np.float32("nan")), x)
    _scatter(g, x, tokens, encoder.hidden)
    matrices = ["input_ids", "attention_mask", *(["token_type_ids"] if segments else [])]
    return g.model(
        "encoder",
        [*((name, TensorProto.INT64, ["N"]) for name in matrices), (ROW_LENGTHS, TensorProto.INT32, ["R"])],
        [("token_embeddings", TensorProto.FLOAT, ["N", encoder.hidden])],
    )


def _layers(g: GraphBuilder, encoder: Encoder, indices: Sequence[str], spans: Spans) -> str:
    x = _embed(g, encoder, *indices)
    for index, layer in enumerate(encoder.layers):
        x = _layer(g, f"layer.{index}", layer, x, spans=spans, heads=encoder.heads)
    return x


def _unknown(g: GraphBuilder, ids: str, size: int) -> str:
    return g.node("Or", g.node("Less", ids, g.int64(0)), g.node("GreaterOrEqual", ids, g.int64(size)))


def _clamp(g: GraphBuilder, ids: str, size: int) -> str:
    return g.node("Clip", ids, g.int64(0), g.int64(size - 1))


def _embed(g: GraphBuilder, encoder: Encoder, ids: str, positions: str, types: str | None = None) -> str:
    words = g.node("Gather", g.constant(encoder.words, "embeddings.words"), ids)
    if types is None:
        table = g.constant(encoder.positions + encoder.types[0], "embeddings.positions")
        return _add_and_norm(g, "embeddings.norm", encoder.norm, words, g.node("Gather", table, positions))
    places = g.node("Gather", g.constant(encoder.positions, "embeddings.positions"), positions)
    kinds = g.node("Gather", g.constant(encoder.types, "embeddings.types"), types)
    return _add_and_norm(g, "embeddings.norm", encoder.norm, words, places, kinds)


def _layer(g: GraphBuilder, name: str, layer: Layer, x: str, *, spans: Spans, heads: int) -> str:
    joined = _side_by_side(layer.query, layer.key, layer.value)
    context = _attention(g, _linear(g, f"{name}.query_key_value", joined, x), spans=spans, heads=heads)
    attended = _product(g, f"{name}.attention_output", layer.attention_output, context)
    bias = _bias(g, f"{name}.attention_output", layer.attention_output)
    x = _add_and_norm(g, f"{name}.attention_norm", layer.attention_norm, attended, x, bias)
    activated = g.node("Gelu", _linear(g, f"{name}.up", layer.up, x), domain=MICROSOFT)
    down = _product(g, f"{name}.down", layer.down, activated)
    return _add_and_norm(g, f"{name}.output_norm", layer.output_norm, down, x, _bias(g, f"{name}.down", layer.down))


def _linear(g: GraphBuilder, name: str, linear: Linear, x: str) -> str:
    return g.node("Add", _product(g, name, linear, x), _bias(g, name, linear))


def _product(g: GraphBuilder, name: str, linear: Linear, x: str) -> str:
    return g.node("MatMul", x, g.constant(linear.weight, f"{name}.weight"))


def _bias(g: GraphBuilder, name: str, linear: Linear) -> str:
    return g.constant(linear.bias, f"{name}.bias")


def _add_and_norm(g: GraphBuilder, name: str, norm: Norm, *terms: str) -> str:
    # One n-ary Sum, not SkipLayerNormalization: onnxruntime's CPU kernel of the latter is several times slower, and an
    # n-ary Sum is not fused back into it when the model is loaded.
    scale, bias = g.constant(norm.scale, f"{name}.scale"), g.constant(norm.bias, f"{name}.bias")
    return g.node("LayerNormalization", g.node("Sum", *terms), scale, bias, epsilon=norm.epsilon)


def _side_by_side(*parts: Linear) -> Linear:
    return Linear(
        np.concatenate([part.weight for part in parts], axis=1), np.concatenate([part.bias for part in parts])
    )


def _attention(g: GraphBuilder, query_key_value: str, *, spans: Spans, heads: int) -> str:
    def one_row(inner: GraphBuilder, begin: str, end: str) -> str:
        # Split after slicing: the row is in the cache then.
        parts = inner.split(inner.line(slice_rows(inner, query_key_value, begin, end)), 3, axis=2)
        attended = inner.node("MultiHeadAttention", *parts, domain=MICROSOFT, num_heads=heads)
        return inner.node("Squeeze", attended, inner.int64([0]))

    return for_each_row(g, spans, one_row, ragged=True)


def _scatter(g: GraphBuilder, x: str, tokens: Tokens, hidden: int) -> None:
    shape = g.node("Concat", g.node("Shape", "input_ids"), g.int64([hidden]), axis=0)
    blank = g.node("Expand", g.constant(np.float32(0)), shape)
    g.node("ScatterND", blank, g.column(tokens.slots), x, name="token_embeddings")
