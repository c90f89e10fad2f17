"""Linear layers, feed-forward blocks, and mixtures of them, over the tokens of all rows at once.

A mixture shares each expert's product between the tokens of all rows that chose it. A token's result is the sum over
its own choices in the order of their weights, so which tokens share the product changes no bit of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from conch_export.onnx.builder import MICROSOFT, GraphBuilder

if TYPE_CHECKING:
    from conch_export.model.network import Experts, FeedForward, Linear

_OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "identity": ("Identity", {}),
    "tanh": ("Tanh", {}),
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "gelu": ("Gelu", {"domain": MICROSOFT}),
    "gelu_tanh": ("FastGelu", {"domain": MICROSOFT}),
    "silu": ("QuickGelu", {"domain": MICROSOFT, "alpha": 1.0}),  # x * sigmoid(alpha x)
}
"""The operator of each activation, of feed-forward blocks (`model.network`) and of heads (`model.heads`)."""


def linear(g: GraphBuilder, name: str, layer: Linear, x: str) -> str:
    """FP32 [n, inputs] to [n, outputs]."""
    return total(g, terms(g, name, layer, x))


def total(g: GraphBuilder, parts: list[str]) -> str:
    """The sum of one or two terms."""
    return g.node("Add", *parts) if len(parts) > 1 else parts[0]


def terms(g: GraphBuilder, name: str, layer: Linear, x: str) -> list[str]:
    """Return the terms of a linear layer, which are to be added: the product, and the bias if there is one."""
    product = g.node("MatMul", x, g.constant(layer.weight, f"{name}.weight"))
    return [product] if layer.bias is None else [product, g.constant(layer.bias, f"{name}.bias")]


def activated(g: GraphBuilder, activation: str, x: str) -> str:
    """`x` through an activation, which may be one of `model.network.Activation` or of `model.heads.ACTIVATIONS`."""
    operator, attributes = _OPERATORS[activation]
    return g.node(operator, x, **attributes)


def fed_forward(g: GraphBuilder, name: str, network: FeedForward, x: str) -> list[str]:
    """Return the terms of a feed-forward block, which are to be added; FP32 [n, hidden], a bias [hidden]."""
    up = linear(g, f"{name}.up", network.up, x)
    if network.gate is None:
        inner = activated(g, network.activation, up)
    else:
        # Two products and not one that is split: the copies of the parts cost more than the second product.
        gate = activated(g, network.activation, linear(g, f"{name}.gate", network.gate, x))
        inner = g.node("Mul", gate, up)
    return terms(g, f"{name}.down", network.down, inner)


def mixture(g: GraphBuilder, name: str, experts: Experts, x: str, *, dense: bool) -> list[str]:
    """Return the terms of a mixture, which are to be added: FP32 [T, hidden], and the bias if there is one.

    Args:
        g: the graph.
        name: begins the names of the weights.
        experts: what to compute.
        x: FP32 [T, hidden].
        dense: whether every expert computes every token, as calibration needs it: on top, and none without tokens.
    """
    mixed = _Mixture(g, name, experts, x)
    output = mixed.of_all() if dense else mixed.of_chosen()
    return [output] if experts.bias is None else [output, g.constant(experts.bias, f"{name}.bias")]


class _Mixture:
    """The sum of what each token's chosen experts give, times their weights."""

    def __init__(self, g: GraphBuilder, name: str, experts: Experts, x: str) -> None:
        self._g, self._name, self._experts, self._x = g, name, experts, x
        # Gemm, because quantization rounds MatMul: a choice that flips would cost more than this product does.
        logits = g.node("Gemm", x, g.constant(experts.router.weight, f"{name}.router"))
        shares, count = g.node("Softmax", logits, axis=1), g.int64([experts.chosen])
        self._weights, self._choices = g.nodes_of("TopK", shares, count, outputs=2, axis=1)

    def of_all(self) -> str:
        """FP32 [T, hidden]; weights of experts that a token has not chosen are 0."""
        g, parts = self._g, []
        for index in range(len(self._experts.networks)):
            hits = g.cast(g.node("Equal", self._choices, g.int64(index)), TensorProto.FLOAT)
            weight = g.node("ReduceSum", g.node("Mul", hits, self._weights), g.int64([1]))
            parts.append(g.node("Mul", self._expert(g, index, self._x), weight))
        return g.node("Sum", *parts)

    def of_chosen(self) -> str:
        """FP32 [T, hidden]: the choices of all tokens are brought into the order of their experts, and back."""
        g, chosen = self._g, self._experts.chosen
        choices = g.node("Reshape", self._choices, g.int64([-1]))
        places, outputs = [], []
        for index in range(len(self._experts.networks)):
            hits = g.node("Equal", choices, g.int64(index))
            places.append(g.node("Squeeze", g.node("NonZero", hits), g.int64([0])))
            outputs.append(self._of_tokens(index, g.node("Div", places[-1], g.int64(chosen))))
        order = g.node("Concat", *places, axis=0)
        back = g.node("ScatterElements", order, order, g.arange(g.size(order)), axis=0)
        found = g.node("Gather", g.node("Concat", *outputs, axis=0), g.node("Reshape", back, g.int64([-1, chosen])))
        weighted = g.node("Mul", found, g.node("Unsqueeze", self._weights, g.int64([2])))
        return g.node("ReduceSum", weighted, g.int64([1]), keepdims=0)

    def _of_tokens(self, index: int, tokens: str) -> str:
        """FP32 [n, hidden] of n tokens, which may be 0."""
        g, hidden = self._g, self._experts.networks[index].down.weight.shape[1]
        nothing = g.constant(np.zeros((0, hidden), np.float32), f"{self._name}.nothing")
        # A branch, because not every operator takes an axis without elements, and few tokens choose few experts.
        (output,) = g.choose(
            g.cast(g.size(tokens), TensorProto.BOOL),
            lambda inner: [self._of_some(inner, index, tokens)],
            lambda inner: [inner.node("Identity", nothing)],
            [TensorProto.FLOAT],
        )
        return output

    def _of_some(self, g: GraphBuilder, index: int, tokens: str) -> str:
        """FP32 [n, hidden] of n tokens, at least one."""
        # Any token more: onnxruntime multiplies a single row as a vector, which rounds otherwise than a matrix does.
        more = g.node("Gather", self._x, g.node("Concat", tokens, g.int64([0]), axis=0))
        return g.slice(self._expert(g, index, more), g.int64([0]), g.int64([-1]), 0)

    def _expert(self, g: GraphBuilder, index: int, x: str) -> str:
        return total(g, fed_forward(g, f"{self._name}.{index}", self._experts.networks[index], x))
