"""A transformer encoder as a padding-free graph, built from a description that knows no framework.

Only the T real tokens are computed: every token-wise operator works on [T, hidden], and attention runs row by row (on a
CPU a padded [rows, longest] attention costs 2 to 5 times as much on mixed lengths). A large batch runs in chunks of
whole rows, so that its activations take no more memory than a chunk's. Where heads read one token of a row, the last
layer computes that token alone, from the keys and values of all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from conch_export.model.description import Target
from conch_export.model.network import Experts, scaled, side_by_side, with_arrays
from conch_export.onnx.attention import Columns, attend_packed, attend_row_by_row, attend_with_one
from conch_export.onnx.builder import MICROSOFT, GraphBuilder
from conch_export.onnx.feed_forward import fed_forward, linear, mixture, terms, total
from conch_export.onnx.packed import Shape, packed_model
from conch_export.onnx.ragged import Spans, for_each_chunk, of_each_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conch_export.model.description import Pooling
    from conch_export.model.network import Attention, Encoder, Layer, Linear, Norm
    from conch_export.onnx.graph import Graph

CHUNK_TOKENS = 512
"""Bounds the memory of a large batch; 128 to 512 and no chunks at all were equally fast (docs/adr, decision 3)."""


def encoder_graph(
    encoder: Encoder,
    *,
    segments: bool = False,
    masked: bool = False,
    token: Pooling | None = None,
    chunk_tokens: int | None = CHUNK_TOKENS,
    target: Target = Target.CPU,
) -> Graph:
    """The encoder as a graph; for its inputs and output see `packed`.

    Args:
        encoder: what to compute.
        segments: take `token_type_ids` as an input; otherwise every token is of type 0.
        masked: whether tokens with a mask of 2, at the end of a row, attend to the others without being attended to.
        token: the one token of a row that heads read, the first (`CLS`) or the last; None for several. Others get zeros
            for vectors. CUDA computes all.
        chunk_tokens: about how many tokens are computed at a time; None computes all at once, without a loop around the
            layers and with every expert and all of the last layer on every token, as calibration needs it to read the
            inputs of products. CUDA always computes all at once.
        target: what the graph will run on. For CUDA it computes in the element type of the encoder's weights.
    """

    def chunks(g: GraphBuilder, vectors: Sequence[str], spans: Spans) -> str:
        if target is Target.CUDA:
            # Heads take FP32, whatever the encoder computes in.
            return g.cast(_layers(g, encoder, vectors, spans, target), TensorProto.FLOAT)
        if chunk_tokens is None:
            return _layers(g, encoder, vectors, spans, token=token, dense=True)
        return for_each_chunk(
            g, spans, vectors, chunk_tokens, lambda inner, *part: _layers(inner, encoder, *part, token=token)
        )

    types = encoder.types.shape[0] if segments and encoder.types is not None else 0
    given = None if target is Target.CUDA or chunk_tokens is None else token
    shape = Shape(encoder.embeddings.shape[0], encoder.hidden, encoder.max_length, types, masked, given)
    return packed_model(shape, chunks)


def _layers(
    g: GraphBuilder,
    encoder: Encoder,
    vectors: Sequence[str],
    spans: Spans,
    target: Target = Target.CPU,
    *,
    token: Pooling | None = None,
    dense: bool = False,
) -> str:
    ids, positions, *types = vectors
    x = _embed(g, encoder, ids, positions, *types)
    last = len(encoder.layers) - 1
    for index, layer in enumerate(encoder.layers):
        block = _Block(g, f"layer.{index}", layer, target, token if index == last else None, dense=dense)
        x = block(x, positions, spans)
    return _normed(g, "final_norm", encoder.final_norm, x)


def _embed(g: GraphBuilder, encoder: Encoder, ids: str, positions: str, types: str | None = None) -> str:
    tokens = g.node("Gather", g.constant(encoder.embeddings, "embeddings.tokens"), ids)
    if encoder.embedding_scale != 1:
        tokens = g.node("Mul", tokens, g.constant(np.asarray(encoder.embedding_scale, encoder.embeddings.dtype)))
    parts = [tokens]
    table = encoder.positions
    if types is not None and encoder.types is not None:
        parts.append(g.node("Gather", g.constant(encoder.types, "embeddings.types"), types))
    elif encoder.types is not None and table is not None:
        # Every token is of type 0 here, so its vector is added to the table now and not to each token later.
        table = table + encoder.types[0]
    elif encoder.types is not None:
        parts.append(g.constant(encoder.types[0], "embeddings.type"))
    if table is not None:
        parts.append(g.node("Gather", g.constant(table, "embeddings.positions"), positions))
    x = _normed(g, "embeddings.norm", encoder.norm, g.node("Sum", *parts) if len(parts) > 1 else parts[0])
    return x if encoder.projection is None else linear(g, "embeddings.projection", encoder.projection, x)


class _Block:
    """Adds the nodes of one layer.

    Args:
        g: the graph.
        name: begins the names of the weights.
        layer: what to compute.
        target: what the graph will run on.
        token: the one token of a row that is computed, see `encoder_graph`; None for all.
        dense: whether everything is computed of every token, by the weights of the same names, see `encoder_graph`.
    """

    def __init__(
        self, g: GraphBuilder, name: str, layer: Layer, target: Target, token: Pooling | None, *, dense: bool
    ) -> None:
        self._g, self._name, self._layer, self._target, self._dense = g, name, layer, target, dense
        # Relative positions meet all queries of a row at once: there the other tokens are left out after the attention.
        self._separate = token is not None and layer.attention.relative is None
        self._token = None if dense else token

    def __call__(self, x: str, positions: str, spans: Spans) -> str:
        """FP32 [T, hidden] to the same, or to [C, hidden] of one token a row."""
        layer = self._layer
        places = None if self._token is None else of_each_row(self._g, spans, self._token)
        x = self._added(
            x,
            self._kept(x, places),
            lambda y: self._attended(y, positions, spans, places),
            ("attention_norm", layer.attention_norm),
            ("attention_output_norm", layer.attention_post_norm),
        )
        norm, post_norm = ("output_norm", layer.feed_forward_norm), ("down_norm", layer.feed_forward_post_norm)
        return self._added(x, x, self._fed_forward, norm, post_norm)

    def _kept(self, x: str, places: str | None) -> str:
        """The tokens at these places of [T, ...]; all where there are no places."""
        return x if places is None else self._g.node("Gather", x, places)

    def _added(
        self,
        x: str,
        kept: str,
        inner: Callable[[str], list[str]],
        norm: tuple[str, Norm | None],
        post_norm: tuple[str, Norm | None],
    ) -> str:
        """norm(x + inner(x)), or x + inner(norm(x)) where norms come before.

        `inner` gives terms to sum up, of those tokens of x that `kept` has.
        """
        if self._layer.pre_norm:
            return self._sum(kept, inner(self._norm(*norm, x)), *post_norm)
        return self._norm(*norm, self._sum(kept, inner(x), *post_norm))

    def _attended(self, x: str, positions: str, spans: Spans, places: str | None) -> list[str]:
        output = self._layer.attention.output
        return terms(self._g, f"{self._name}.attention_output", output, self._attend(x, positions, spans, places))

    def _fed_forward(self, x: str) -> list[str]:
        block = self._layer.feed_forward
        if isinstance(block, Experts):
            return mixture(self._g, f"{self._name}.experts", block, x, dense=self._dense)
        return fed_forward(self._g, self._name, block, x)

    def _attend(self, x: str, positions: str, spans: Spans, places: str | None) -> str:
        attention, g = self._layer.attention, self._g
        if self._separate:
            parts = self._separated(x, positions, places)
            if self._token is None:
                return attend_row_by_row(g, parts, spans=spans, attention=attention)
            return attend_with_one(g, parts, spans=spans, attention=attention, token=self._token)
        joined = self._linear("query_key_value", side_by_side(_queries(attention), attention.key, attention.value), x)
        if self._target is Target.CUDA:
            return attend_packed(g, joined, spans=spans, attention=attention)
        context = attend_row_by_row(g, self._projections(joined, positions), spans=spans, attention=attention)
        return self._kept(context, places)

    def _separated(self, x: str, positions: str, places: str | None) -> list[Columns]:
        """As `_projections`, with queries of the tokens at these places from a product of their own."""
        attention = self._layer.attention
        query = self._linear("query", _queries(attention), self._kept(x, places))
        query = self._heads_normed("query_norm", _scaled_norm(attention), query)
        joined = self._linear("key_value", side_by_side(attention.key, attention.value), x)
        keys = attention.key_heads * attention.head_width
        key = joined
        if attention.key_norm is not None or attention.rotary is not None:
            key = self._heads_normed("key_norm", attention.key_norm, self._columns(joined, 0, keys))
        turned = self._rotated(query, self._kept(positions, places)), self._rotated(key, positions)
        return [(turned[0], 0), (turned[1], 0), (joined, keys)]

    def _projections(self, joined: str, positions: str) -> list[Columns]:
        """Queries and keys normed and rotated; parts that neither changes stay columns of the joined product."""
        attention = self._layer.attention
        queries = attention.heads * attention.head_width
        keys = attention.key_heads * attention.head_width
        value = (joined, queries + keys)
        if attention.query_norm is None and attention.key_norm is None:
            # The rotation treats each head by itself, so one call turns query and key heads together.
            both = joined if attention.rotary is None else self._columns(joined, 0, queries + keys)
            both = self._rotated(both, positions)
            return [(both, 0), (both, queries), value]
        query = self._heads_normed("query_norm", _scaled_norm(attention), self._columns(joined, 0, queries))
        key = self._heads_normed("key_norm", attention.key_norm, self._columns(joined, queries, queries + keys))
        return [(self._rotated(query, positions), 0), (self._rotated(key, positions), 0), value]

    def _columns(self, x: str, begin: int, end: int) -> str:
        g = self._g
        return g.node("Slice", x, g.int64([begin]), g.int64([end]), g.int64([1]))

    def _heads_normed(self, name: str, norm: Norm | None, x: str) -> str:
        if norm is None:
            return x
        g, shape = self._g, [0, -1, self._layer.attention.head_width]
        return g.node("Reshape", self._norm(name, norm, g.node("Reshape", x, g.int64(shape))), g.int64([0, -1]))

    def _rotated(self, x: str, positions: str) -> str:
        rotary, g = self._layer.attention.rotary, self._g
        if rotary is None:
            return x
        # Tokens as a batch of rows of one: the operator takes no row longer than its tables.
        # Layers may turn differently (ModernBERT); those that turn alike share tables.
        tables = [g.shared(f"rotary.{name}", table) for name, table in vars(rotary).items()]
        turned = g.node(
            "RotaryEmbedding", g.node("Unsqueeze", x, g.int64([1])), g.column(positions), *tables, domain=MICROSOFT
        )
        return g.node("Squeeze", turned, g.int64([1]))

    def _sum(self, x: str, parts: list[str], name: str, norm: Norm | None) -> str:
        # One n-ary Sum, not SkipLayerNormalization: onnxruntime's CPU kernel of the latter is several times slower, and
        # an n-ary Sum is not fused back into it when the model is loaded.
        product, *bias = parts if norm is None else [self._norm(name, norm, total(self._g, parts))]
        return self._g.node("Sum", product, x, *bias)

    def _linear(self, name: str, layer: Linear, x: str) -> str:
        return linear(self._g, f"{self._name}.{name}", layer, x)

    def _norm(self, name: str, norm: Norm | None, x: str) -> str:
        return _normed(self._g, f"{self._name}.{name}", norm, x)


def _normed(g: GraphBuilder, name: str, norm: Norm | None, x: str) -> str:
    if norm is None:
        return x
    operator = "SimplifiedLayerNormalization" if norm.rms else "LayerNormalization"
    bias = [] if norm.bias is None else [g.constant(norm.bias, f"{name}.bias")]
    return g.node(operator, x, g.constant(norm.scale, f"{name}.scale"), *bias, axis=-1, epsilon=norm.epsilon)


def _queries(attention: Attention) -> Linear:
    """The query layer with the scale of the scores in its weights, unless a norm follows, which would undo it."""
    return attention.query if attention.query_norm else scaled(attention.query, attention.score_scale)


def _scaled_norm(attention: Attention) -> Norm | None:
    # Here the factor is in the scale of the norm, which is the last thing that queries pass.
    norm = attention.query_norm
    factor = np.float32(attention.score_scale)
    return norm and replace(norm, scale=norm.scale * factor)


def with_rounded_positions(encoder: Encoder) -> Encoder:
    """The encoder whose contents meet relative positions in 8 bits, as the rest of an int8 graph does."""

    def rounded(layer: Layer) -> Layer:
        relative = layer.attention.relative
        if relative is None:
            return layer
        return replace(layer, attention=replace(layer.attention, relative=replace(relative, rounded=True)))

    return replace(encoder, layers=tuple(map(rounded, encoder.layers)))


def as_float16(encoder: Encoder) -> Encoder:
    """The encoder with its weights rounded to 16 bits, for targets that compute in them."""
    return with_arrays(encoder, lambda array: array.astype(np.float16))
