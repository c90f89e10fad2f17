"""What all heads share: their inputs, and the layers that vectors may go through in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from conch_export.model.heads import Unit
from conch_export.model.network import Norm
from conch_export.onnx.builder import MICROSOFT, GraphBuilder
from conch_export.onnx.layout import ROW_LENGTHS, Layout, lengths_name, row_lengths
from conch_export.onnx.ragged import MASK, Tokens, locate_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    from numpy.typing import NDArray

    from conch_export.model.heads import Step

_NAN = np.float32(np.nan)
_VECTORS, _IDS = "token_embeddings", "input_ids"
_OPERATORS: dict[str, dict[str, Any]] = {
    "identity": {"op": "Identity"},
    "tanh": {"op": "Tanh"},
    "relu": {"op": "Relu"},
    "sigmoid": {"op": "Sigmoid"},
    "gelu": {"op": "Gelu", "domain": MICROSOFT},
    "silu": {"op": "QuickGelu", "domain": MICROSOFT, "alpha": 1.0},
}
"""The operator of each of `model.heads.ACTIVATIONS`."""


def head_lengths(lengths: Sequence[int], hidden: int) -> dict[str, NDArray[np.int32]]:
    """What Triton would add to a head's inputs for rows of these lengths."""
    shapes = [number for length in lengths for number in (length, hidden)]
    return {**row_lengths(lengths, _IDS), lengths_name(_VECTORS): np.array(shapes, np.int32)}


class Frame:
    """A head's graph from its inputs to its finished model.

    Attributes:
        g: the graph.
        layout: the rows and their slots; those of `attention_mask` lead.
        tokens: where the real tokens are.
        x: their vectors, FP32 [T, hidden]; NaN in rows without any, and in those whose tensors disagree.
        ids: INT64 [T], their ids; empty for a head that does not take them.
    """

    def __init__(self, hidden: int, *, takes_ids: bool = False) -> None:
        g = self.g = GraphBuilder()
        table = g.node("Reshape", _VECTORS, g.int64([-1, hidden]))
        # Triton gives the whole shape of a row, [length, hidden].
        lengths = g.node("Slice", lengths_name(_VECTORS), g.int64([0]), g.int64([2**31]), g.int64([0]), g.int64([2]))
        others = {table: lengths} | ({_IDS: lengths_name(_IDS)} if takes_ids else {})
        self.layout = Layout(g, MASK, others)
        self.tokens: Tokens = locate_tokens(g, self.layout)
        self.x = self._read(table, hidden)
        self.ids = self.layout.read(_IDS, self.tokens.slots, self.tokens.rows) if takes_ids else ""
        self._inputs: list[tuple[str, int, Sequence[int | str]]] = [
            (_VECTORS, TensorProto.FLOAT, [f"N*{hidden}"]),
            (MASK, TensorProto.INT64, ["N"]),
            (ROW_LENGTHS, TensorProto.INT32, ["R"]),
            (lengths_name(_VECTORS), TensorProto.INT32, ["2*R"]),
        ]
        if takes_ids:
            self._inputs += [(_IDS, TensorProto.INT64, ["N"]), (lengths_name(_IDS), TensorProto.INT32, ["R"])]

    def _read(self, table: str, hidden: int) -> str:
        """The tokens' vectors; the table is copied with its filler only for runs that need one."""
        g, tokens = self.g, self.tokens
        indices = self.layout.indices(table, tokens.slots, tokens.rows, tokens.malformed)
        is_whole = g.node(
            "Less", g.node("ReduceMax", indices, keepdims=0), g.node("Squeeze", g.node("Shape", table, end=1))
        )

        def with_filler(inner: GraphBuilder) -> str:
            filler = inner.constant(np.full((1, hidden), np.nan, np.float32), "refusal")
            return inner.node("Gather", inner.node("Concat", table, filler, axis=0), indices)

        return g.choose(is_whole, lambda b: b.node("Gather", table, indices), with_filler, TensorProto.FLOAT)

    def take(self, name: str, element: int, axis: str) -> str:
        """One more input, a vector along that axis."""
        self._inputs.append((name, element, [axis]))
        return name

    def steps(self, x: str, steps: Sequence[Step]) -> str:
        """FP32 [n, width] through layers that treat every vector by itself."""
        for index, step in enumerate(steps):
            x = self._step(f"step.{index}", step, x)
        return x

    def give(self, output: str, per_row: str, filler: np.generic = _NAN) -> None:
        """Answer [C, width] as [R, width], with the filler for rows without slots."""
        self.layout.restore(per_row, self.g.constant(filler), output)

    def finish(self, name: str, *outputs: tuple[str, int, Sequence[int | str]]) -> onnx.ModelProto:
        """The model, with outputs of (name, element type, shape)."""
        return self.g.model(name, self._inputs, outputs)

    def _step(self, name: str, step: Step, x: str) -> str:
        if isinstance(step, Unit):
            return self.g.node("LpNormalization", x, axis=1, p=2)
        if isinstance(step, Norm):
            parts = [self.g.constant(step.scale, f"{name}.scale")]
            parts += [] if step.bias is None else [self.g.constant(step.bias, f"{name}.bias")]
            return self.g.node("LayerNormalization", x, *parts, axis=-1, epsilon=step.epsilon)
        bias = [] if step.linear.bias is None else [self.g.constant(step.linear.bias, f"{name}.bias")]
        x = self.g.node("Gemm", x, self.g.constant(step.linear.weight, f"{name}.weight"), *bias)
        operator = _OPERATORS[step.activation]
        return self.g.node(operator["op"], x, **{key: value for key, value in operator.items() if key != "op"})
