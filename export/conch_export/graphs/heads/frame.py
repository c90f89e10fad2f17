"""What all heads share: their inputs, and the layers that vectors may go through in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx import TensorProto

from conch_export.errors import UnsupportedError
from conch_export.graphs.builder import MICROSOFT, GraphBuilder
from conch_export.graphs.network import Linear, Norm
from conch_export.graphs.ragged import ROW_LENGTHS, Tokens, locate_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

ACTIVATIONS: dict[str, dict[str, Any]] = {
    "identity": {"op": "Identity"},
    "tanh": {"op": "Tanh"},
    "relu": {"op": "Relu"},
    "sigmoid": {"op": "Sigmoid"},
    "gelu": {"op": "Gelu", "domain": MICROSOFT},
    "silu": {"op": "QuickGelu", "domain": MICROSOFT, "alpha": 1.0},
}
"""The operator of each, by the name that transformers gives it."""


@dataclass(frozen=True)
class Dense:
    """activation(x @ weight + bias), for a key of `ACTIVATIONS`.

    Raises:
        UnsupportedError: the activation is not among them.
    """

    linear: Linear
    activation: str = "identity"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            message = f"activation {self.activation!r} is not built into heads (known: {', '.join(ACTIVATIONS)})"
            raise UnsupportedError(message)


@dataclass(frozen=True)
class Unit:
    """Division by the Euclidean length."""


Step = Dense | Norm | Unit
"""A layer of a head; `Norm` is a layer norm."""


class Frame:
    """A head's graph from its inputs to its finished model.

    Attributes:
        g: the graph.
        tokens: where the real tokens are.
        x: their vectors, FP32 [T, hidden].
    """

    def __init__(self, hidden: int) -> None:
        self.g = GraphBuilder()
        self.tokens: Tokens = locate_tokens(self.g)
        self._inputs: list[tuple[str, int, Sequence[int | str]]] = [
            ("token_embeddings", TensorProto.FLOAT, [f"N*{hidden}"]),
            ("attention_mask", TensorProto.INT64, ["N"]),
            (ROW_LENGTHS, TensorProto.INT32, ["R"]),
        ]
        slots = self.g.node("Reshape", "token_embeddings", self.g.int64([-1, hidden]))
        self.x = self.g.node("Gather", slots, self.tokens.slots)

    def take(self, name: str, element: int, axis: str) -> str:
        """One more input, a vector along that axis."""
        self._inputs.append((name, element, [axis]))
        return name

    def steps(self, x: str, steps: Sequence[Step]) -> str:
        """FP32 [n, width] through layers that treat every vector by itself."""
        for index, step in enumerate(steps):
            x = self._step(f"step.{index}", step, x)
        return x

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
        operator = ACTIVATIONS[step.activation]
        return self.g.node(operator["op"], x, **{key: value for key, value in operator.items() if key != "op"})
