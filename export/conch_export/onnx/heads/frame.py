"""The frame that all heads share: their inputs, where each row's tokens are, and layers over vectors."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from conch_export.model.heads import LogOdds, Sum, Unit
from conch_export.model.network import Norm
from conch_export.onnx.builder import GraphBuilder
from conch_export.onnx.feed_forward import activated
from conch_export.onnx.graph import Graph
from conch_export.onnx.layout import EMBEDDINGS, IDS, MASK, ROW_LENGTHS, Layout, lengths_name, restore
from conch_export.onnx.ragged import Spans, Tokens, locate_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_export.model.heads import HeadLayer
    from conch_export.onnx.builder import Tensor

_NAN = np.float32(np.nan)


class Frame:
    """A head's graph from its inputs to its finished model.

    Attributes:
        g: the graph.
        takes_ids: whether the head takes `input_ids`.
    """

    def __init__(self, hidden: int, *, takes_ids: bool = False) -> None:
        g = self.g = GraphBuilder()
        self.takes_ids = takes_ids
        self._hidden = hidden
        self._table = g.node("Reshape", EMBEDDINGS, g.int64([-1, hidden]))
        # Triton gives the whole shape of a row, [length, hidden].
        shapes = (lengths_name(EMBEDDINGS), g.int64([0]), g.int64([2**31]), g.int64([0]), g.int64([2]))
        self._lengths = g.node("Slice", *shapes)
        self._places = ""
        self._inputs: list[Tensor] = [
            (EMBEDDINGS, TensorProto.FLOAT, [f"N*{hidden}"]),
            (MASK, TensorProto.INT64, ["N"]),
            (ROW_LENGTHS, TensorProto.INT32, ["R"]),
            (lengths_name(EMBEDDINGS), TensorProto.INT32, ["2*R"]),
        ]
        if takes_ids:
            self._inputs += [(IDS, TensorProto.INT64, ["N"]), (lengths_name(IDS), TensorProto.INT32, ["R"])]

    def locate(self) -> tuple[Layout, Tokens, str]:
        """The rows, of which those of `attention_mask` lead; their real tokens; and the tokens' vectors.

        The vectors are FP32 [T, hidden]; NaN in rows without a token, and in those whose tensors disagree.
        """
        layout, tokens, x = self._locate(self.g)
        self._places = layout.places
        return layout, tokens, x

    def rows(self) -> tuple[Spans, str]:
        """Where each row's tokens are, and their vectors: enough for heads that work row by row.

        Most runs have no pads and nothing to refuse. Their tokens are their slots, which saves some 50 nodes: for one
        short text these take 5 % of the time of encoder and head (ADR 1).
        """
        g = self.g

        def whole(inner: GraphBuilder) -> Sequence[str]:
            lengths = inner.cast(ROW_LENGTHS, TensorProto.INT64)
            last = inner.cumsum(lengths)
            places = inner.arange(inner.size(ROW_LENGTHS))
            # Identity, because a branch may only return what its own nodes have made.
            return inner.node("Identity", self._table), inner.node("Sub", last, lengths), last, places

        def any_run(inner: GraphBuilder) -> Sequence[str]:
            layout, tokens, x = self._locate(inner)
            return x, tokens.spans.first, tokens.spans.last, layout.places

        # One minimum finds every reason against it: a pad is 0 in the mask, a row without slots is 0 in its length, and
        # a row whose lengths disagree is made 0.
        agreed = g.node("Where", g.node("Equal", ROW_LENGTHS, self._lengths), ROW_LENGTHS, g.constant(np.int32(0)))
        smallest = g.node("ReduceMin", g.node("Concat", MASK, g.cast(agreed, TensorProto.INT64), axis=0), keepdims=0)
        kinds = [TensorProto.FLOAT, *[TensorProto.INT64] * 3]
        x, first, last, self._places = g.choose(g.node("Greater", smallest, g.int64(0)), whole, any_run, kinds)
        return Spans(first, last), x

    def _locate(self, g: GraphBuilder) -> tuple[Layout, Tokens, str]:
        others = {self._table: self._lengths} | ({IDS: lengths_name(IDS)} if self.takes_ids else {})
        layout = Layout(g, MASK, others)
        # Without `max_length`: the encoder has answered rows that exceed it with NaN already.
        tokens = locate_tokens(g, layout)
        return layout, tokens, self._read(g, layout, tokens)

    def _read(self, g: GraphBuilder, layout: Layout, tokens: Tokens) -> str:
        """The tokens' vectors; the table is copied with its filler only for runs that need one."""
        table = self._table
        indices = layout.indices(table, tokens.slots, tokens.rows, tokens.malformed)
        largest = g.node("ReduceMax", indices, keepdims=0)

        def with_filler(inner: GraphBuilder) -> Sequence[str]:
            filler = inner.constant(np.full((1, self._hidden), np.nan, np.float32), "refusal")
            return [inner.node("Gather", inner.node("Concat", table, filler, axis=0), indices)]

        is_whole = g.node("Less", largest, g.node("Squeeze", g.node("Shape", table, end=1)))
        (x,) = g.choose(is_whole, lambda b: [b.node("Gather", table, indices)], with_filler, [TensorProto.FLOAT])
        return x

    def take(self, name: str, element: int, axis: str) -> str:
        """One more input, a vector along that axis."""
        self._inputs.append((name, element, [axis]))
        return name

    def give(self, output: str, per_row: str, filler: np.generic = _NAN) -> None:
        """Answer [C, width] as [R, width], with the filler for rows without slots."""
        restore(self.g, per_row, self._places, filler, output)

    def finish(self, name: str, *outputs: Tensor) -> Graph:
        """The model with these outputs."""
        return Graph.of(self.g, name, self._inputs, outputs)


def through(g: GraphBuilder, x: str, layers: Sequence[HeadLayer], name: str = "layer") -> str:
    """FP32 [n, width] through layers that treat every vector by itself; their weights' names begin with `name`."""
    for index, layer in enumerate(layers):
        x = _layer(g, f"{name}.{index}", layer, x)
    return x


def _layer(g: GraphBuilder, name: str, layer: HeadLayer, x: str) -> str:
    if isinstance(layer, Unit):
        return g.node("LpNormalization", x, axis=1, p=2)
    if isinstance(layer, LogOdds):
        return _log_odds(g, layer, x)
    if isinstance(layer, Sum):
        parts = (through(g, x, branch, f"{name}.{index}") for index, branch in enumerate(layer.branches))
        return reduce(lambda total, part: g.node("Add", total, part), parts)
    weights = layer if isinstance(layer, Norm) else layer.linear
    bias = [] if weights.bias is None else [g.constant(weights.bias, f"{name}.bias")]
    if isinstance(layer, Norm):
        scale = g.constant(layer.scale, f"{name}.scale")
        return g.node("LayerNormalization", x, scale, *bias, axis=-1, epsilon=layer.epsilon)
    product = g.node("Gemm", x, g.constant(layer.linear.weight, f"{name}.weight"), *bias)
    answer = activated(g, layer.activation, product)
    if layer.residual is None:
        return answer
    return g.node("Add", answer, g.node("MatMul", x, g.constant(layer.residual.weight, f"{name}.residual")))


def _log_odds(g: GraphBuilder, layer: LogOdds, logits: str) -> str:
    others = [label for label in range(layer.labels) if label != layer.label]
    own, rest = (g.node("Gather", logits, g.int64(labels), axis=1) for labels in ([layer.label], others))
    return g.node("Sub", own, g.node("ReduceLogSumExp", rest, g.int64([1])))
