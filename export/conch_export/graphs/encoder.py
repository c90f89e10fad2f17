"""A transformer encoder as a padding-free graph, built from a description that knows no framework.

Only the T real tokens are computed: every token-wise operator works on [T, hidden], and attention runs row by row (on a
CPU a padded [rows, longest] attention costs 2 to 5 times as much on mixed lengths). A large batch runs in chunks of
whole rows, so that its activations take no more memory than a chunk's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, cast

import numpy as np
from onnx import TensorProto

from conch_export.graphs.attention import attend_packed, attend_row_by_row, query_scale
from conch_export.graphs.builder import MICROSOFT, GraphBuilder
from conch_export.graphs.packed import Shape, packed_model
from conch_export.graphs.ragged import Spans, for_each_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx
    from numpy.typing import NDArray


class Target(str, Enum):
    """What a graph is to run on."""

    CPU = "cpu"
    CUDA = "cuda"


CHUNK_TOKENS = 512
"""Bounds the memory of a large batch; 128 to 512 and no chunks at all were equally fast (docs/adr, decision 3)."""


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
    encoder: Encoder,
    *,
    segments: bool = False,
    chunk_tokens: int | None = CHUNK_TOKENS,
    target: Target = Target.CPU,
) -> onnx.ModelProto:
    """The encoder as an ONNX model; for its inputs and output see `packed`.

    Args:
        encoder: what to compute.
        segments: take `token_type_ids` as an input; otherwise every token is of type 0.
        chunk_tokens: about how many tokens are computed at a time; None computes all at once, without a loop around the
            layers. CUDA always computes all at once.
        target: what the graph will run on. For CUDA it computes in the element type of the encoder's weights.
    """

    def chunks(g: GraphBuilder, vectors: Sequence[str], spans: Spans) -> str:
        if target is Target.CUDA:
            return g.cast(_layers(g, encoder, vectors, spans, target), TensorProto.FLOAT)
        if chunk_tokens is None:
            return _layers(g, encoder, vectors, spans)
        return for_each_chunk(g, spans, vectors, chunk_tokens, lambda inner, *part: _layers(inner, encoder, *part))

    types = encoder.types.shape[0] if segments else 0
    return packed_model(Shape(encoder.words.shape[0], encoder.hidden, encoder.max_length, types), chunks)


def _layers(
    g: GraphBuilder, encoder: Encoder, vectors: Sequence[str], spans: Spans, target: Target = Target.CPU
) -> str:
    def attend(query_key_value: str) -> str:
        if target is Target.CUDA:
            return attend_packed(g, query_key_value, spans=spans, heads=encoder.heads)
        return attend_row_by_row(g, query_key_value, spans=spans, heads=encoder.heads, width=encoder.hidden)

    x = _embed(g, encoder, *vectors)
    for index in range(len(encoder.layers)):
        x = _layer(g, encoder, index, x, attend)
    return x


def _embed(g: GraphBuilder, encoder: Encoder, ids: str, positions: str, types: str | None = None) -> str:
    words = g.node("Gather", g.constant(encoder.words, "embeddings.words"), ids)
    if types is None:
        table = g.constant(encoder.positions + encoder.types[0], "embeddings.positions")
        return _add_and_norm(g, "embeddings.norm", encoder.norm, words, g.node("Gather", table, positions))
    places = g.node("Gather", g.constant(encoder.positions, "embeddings.positions"), positions)
    kinds = g.node("Gather", g.constant(encoder.types, "embeddings.types"), types)
    return _add_and_norm(g, "embeddings.norm", encoder.norm, words, places, kinds)


def _layer(g: GraphBuilder, encoder: Encoder, index: int, x: str, attend: Callable[[str], str]) -> str:
    name, layer = f"layer.{index}", encoder.layers[index]
    queries = _scaled(layer.query, query_scale(encoder.hidden, encoder.heads))
    joined = _linear(g, f"{name}.query_key_value", _side_by_side(queries, layer.key, layer.value), x)
    attended = _product(g, f"{name}.attention_output", layer.attention_output, attend(joined))
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


def _scaled(linear: Linear, factor: np.float32) -> Linear:
    return Linear(linear.weight * linear.weight.dtype.type(factor), linear.bias * linear.bias.dtype.type(factor))


def as_float16(encoder: Encoder) -> Encoder:
    """The encoder with its weights rounded to 16 bits, for targets that compute in them."""
    return cast("Encoder", _rounded(encoder))


def _rounded(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.astype(np.float16)
    if isinstance(value, tuple):
        return tuple(map(_rounded, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _rounded(getattr(value, field.name)) for field in fields(value)})
    return value
