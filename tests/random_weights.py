"""Layers with random weights, for what depends on shapes alone."""

from __future__ import annotations

import numpy as np
from conch_export.model.network import Linear, Norm

_random = np.random.default_rng(0)


def linear(inputs: int, outputs: int) -> Linear:
    """A layer without a bias that is felt."""
    weight = _random.standard_normal((inputs, outputs), np.float32) * np.float32(0.02)
    return Linear(weight, np.zeros(outputs, np.float32))


def norm(width: int) -> Norm:
    """A layer norm that scales by 1."""
    return Norm(np.ones(width, np.float32), np.zeros(width, np.float32), 1e-12)
