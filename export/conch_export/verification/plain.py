"""An encoder's description computed in PyTorch, one text at a time and with nothing clever.

What exported graphs are compared with where transformers has no implementation of an architecture. It shares the
reading of the checkpoint with the graph, so it proves the graph and its rounding, not the reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from conch_export.model.network import Activation
from conch_export.onnx.distances import score_matrix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from conch_export.model.network import Attention, Encoder, FeedForward, Layer, Linear, Norm, Rotary

_ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    Activation.GELU: functional.gelu,
    Activation.GELU_TANH: lambda x: functional.gelu(x, approximate="tanh"),
    Activation.SILU: functional.silu,
    Activation.RELU: functional.relu,
}


class PlainEncoder:
    """Token ids of one text to the vectors of its tokens."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @torch.inference_mode()
    def __call__(self, ids: Sequence[int], types: Sequence[int], unseen: int = 0) -> torch.Tensor:
        """FP32 [tokens, hidden]; the last `unseen` tokens are not attended to."""
        encoder = self._encoder
        x = _tensor(encoder.words)[torch.tensor(ids)]
        if encoder.positions is not None:
            x = x + _tensor(encoder.positions[: len(ids)])
        if encoder.types is not None:
            x = x + _tensor(encoder.types)[torch.tensor(types)]
        x = _normed(encoder.norm, x)
        for layer in encoder.layers:
            x = _layer(layer, x, len(ids) - unseen)
        return _normed(encoder.final_norm, x)


def _layer(layer: Layer, x: torch.Tensor, keys: int) -> torch.Tensor:
    if layer.pre_norm:
        x = x + _attend(layer.attention, _normed(layer.attention_norm, x), keys)
        return x + _feed_forward(layer.feed_forward, _normed(layer.feed_forward_norm, x))
    x = _normed(layer.attention_norm, x + _attend(layer.attention, x, keys))
    return _normed(layer.feed_forward_norm, x + _feed_forward(layer.feed_forward, x))


def _attend(attention: Attention, x: torch.Tensor, keys: int) -> torch.Tensor:
    shared = attention.heads // attention.key_heads
    query = _rotated(attention.rotary, _normed(attention.query_norm, _heads(attention.query, attention.heads, x)))
    key = _rotated(attention.rotary, _normed(attention.key_norm, _heads(attention.key, attention.key_heads, x)))
    value = _heads(attention.value, attention.key_heads, x)
    key, value = (part.repeat_interleave(shared, dim=0) for part in (key, value))
    scores = query @ key.transpose(1, 2) * attention.head_width**-0.5 + _tensor(score_matrix(attention, len(x)))
    context = torch.softmax(scores[..., :keys], dim=-1) @ value[:, :keys]
    return _linear(attention.output, context.transpose(0, 1).reshape(len(x), -1))


def _heads(linear: Linear, heads: int, x: torch.Tensor) -> torch.Tensor:
    return _linear(linear, x).reshape(len(x), heads, -1).transpose(0, 1)


def _rotated(rotary: Rotary | None, x: torch.Tensor) -> torch.Tensor:
    if rotary is None:
        return x
    cos, sin = (_tensor(table[: x.shape[1]]) for table in (rotary.cos, rotary.sin))
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


def _feed_forward(network: FeedForward, x: torch.Tensor) -> torch.Tensor:
    bend = _ACTIVATIONS[network.activation]
    if network.gate is None:
        return _linear(network.down, bend(_linear(network.up, x)))
    return _linear(network.down, bend(_linear(network.gate, x)) * _linear(network.up, x))


def _normed(norm: Norm | None, x: torch.Tensor) -> torch.Tensor:
    if norm is None:
        return x
    if norm.rms:
        return functional.rms_norm(x, x.shape[-1:], _tensor(norm.scale), norm.epsilon)
    bias = None if norm.bias is None else _tensor(norm.bias)
    return functional.layer_norm(x, x.shape[-1:], _tensor(norm.scale), bias, norm.epsilon)


def _linear(linear: Linear, x: torch.Tensor) -> torch.Tensor:
    y = x @ _tensor(linear.weight)
    return y if linear.bias is None else y + _tensor(linear.bias)


def _tensor(array: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
