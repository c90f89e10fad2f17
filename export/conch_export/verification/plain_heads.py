"""Heads computed in PyTorch, one text at a time and with nothing clever: what exported heads are compared with.

It shares the reading of the checkpoint with the graphs, so where transformers has the head, its own comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from conch_export.model.description import Pooling
from conch_export.model.heads import Unit
from conch_export.model.network import Norm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conch_export.model.heads import Lexical, Step, Vocabulary
    from conch_export.model.network import Linear

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


def through(steps: Sequence[Step], x: torch.Tensor) -> torch.Tensor:
    """FP32 [n, width] through layers."""
    for step in steps:
        if isinstance(step, Unit):
            x = functional.normalize(x, dim=-1)
        elif isinstance(step, Norm):
            bias = None if step.bias is None else torch.from_numpy(step.bias)
            x = functional.layer_norm(x, x.shape[-1:], torch.from_numpy(step.scale), bias, step.epsilon)
        else:
            x = _ACTIVATIONS[step.activation](_linear(step.linear, x))
    return x


def pool(pooling: Pooling, tokens: torch.Tensor) -> torch.Tensor:
    """FP32 [n, hidden] to [hidden]."""
    places = torch.arange(1, len(tokens) + 1, dtype=torch.float32)[:, None]
    poolings: dict[Pooling, Callable[[], torch.Tensor]] = {
        Pooling.MEAN: lambda: tokens.mean(0),
        Pooling.CLS: lambda: tokens[0],
        Pooling.MAX: lambda: tokens.amax(0),
        Pooling.LAST: lambda: tokens[-1],
        Pooling.WEIGHTED_MEAN: lambda: (tokens * places).sum(0) / places.sum(),
        Pooling.MEAN_SQRT_LENGTH: lambda: tokens.sum(0) / len(tokens) ** 0.5,
    }
    return poolings[pooling]()


def splade(logits: torch.Tensor, logarithms: int) -> torch.Tensor:
    """FP32 [n, words] to the weights of words."""
    weights = torch.relu(logits)
    for _ in range(logarithms):
        weights = torch.log1p(weights)
    return weights.amax(0)


def logits(head: Vocabulary, tokens: torch.Tensor) -> torch.Tensor:
    """FP32 [n, hidden] to [n, words]."""
    return _linear(head.decoder, through(head.steps, tokens))


def lexical(head: Lexical, tokens: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """FP32 [n, hidden] and the ids of the tokens to the weights of words."""
    weights = torch.zeros(head.size)
    for word, weight in zip(ids, torch.relu(_linear(head.output, tokens))[:, 0], strict=True):
        if word not in head.skipped:
            weights[word] = torch.maximum(weights[word], weight)
    return weights


def maxsim(query: torch.Tensor, document: torch.Tensor) -> torch.Tensor:
    """Vectors of length 1 of each one's tokens to their score."""
    return (query @ document.T).amax(1).mean()


def _linear(linear: Linear, x: torch.Tensor) -> torch.Tensor:
    bias = None if linear.bias is None else torch.from_numpy(linear.bias)
    return functional.linear(x, torch.from_numpy(linear.weight.T.copy()), bias)
