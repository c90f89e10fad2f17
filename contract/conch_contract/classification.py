"""How a classifier's logits become scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Activation = Literal["softmax", "sigmoid", "identity"]
"""Labels that exclude each other, labels that do not, and numbers that are no probabilities (regression)."""


def label_scores(logits: NDArray[np.float32], activation: Activation) -> NDArray[np.float32]:
    """The scores of labels, float32 [n, labels] from logits of that shape."""
    if activation == "identity":
        return logits
    if activation == "sigmoid":
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), np.float32)  # 1 / (1 + e^-x) without its overflow
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
