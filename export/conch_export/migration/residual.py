"""A small network that corrects an affine map between two models' vectors (Drift-Adapter's residual MLP, EMNLP 2025).

The affine map is not changed. The correction starts at zero, and the epoch with the smallest loss on the validation
texts is kept, so it never makes that loss worse.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from conch_export.model.heads import Dense, Sum, Unit
from conch_export.model.network import Linear
from conch_export.progress import counted, silent

if TYPE_CHECKING:
    from conch_export.migration.maps import Affine
    from conch_export.migration.neighbours import Floats
    from conch_export.model.heads import HeadLayer
    from conch_export.progress import Progress

_INNER = 512
_EPOCHS, _PATIENCE, _BATCH = 100, 8, 256
_LEARNING_RATE, _DECAY = 1e-3, 1e-2


class _Correction(torch.nn.Module):
    def __init__(self, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(inputs, _INNER), torch.nn.Linear(_INNER, outputs)
        with torch.no_grad():
            # From a generator of its own, so that the same texts always give the same bridge.
            self.up.weight.normal_(0.0, inputs**-0.5, generator=generator)
            for zero in (self.up.bias, self.down.weight, self.down.bias):
                zero.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        corrected: torch.Tensor = self.down(functional.gelu(self.up(x)))
        return corrected


def corrected(
    affine: Affine,
    train: tuple[Floats, Floats],
    validation: tuple[Floats, Floats],
    progress: Progress = silent,
    *,
    unit: bool,
) -> tuple[HeadLayer, ...]:
    """Train a correction; return the layers of the affine map with it.

    Args:
        affine: the map to correct.
        train: x [n, new] and y [n, old] to learn from.
        validation: x and y that decide when to stop.
        progress: receives the number of finished epochs.
        unit: whether to normalise the vectors.
    """
    generator = torch.Generator().manual_seed(0)
    inputs, outputs = affine.weight.shape
    network = _Correction(inputs, outputs, generator)
    # Components of normalised vectors of dimension d are about 1/sqrt(d); the network trains best on values around 1.
    scale = float(np.sqrt(np.square(train[0]).mean()))
    learned, held = (_Pairs(affine, pairs, scale) for pairs in (train, validation))
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_DECAY)
    best, best_loss, stale = copy.deepcopy(network.state_dict()), held.loss(network, unit=unit).item(), 0
    for _ in counted(progress, "training the residual network", range(_EPOCHS), _EPOCHS):
        order = torch.randperm(len(learned.x), generator=generator)
        for begin in range(0, len(order), _BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(learned.loss(network, order[begin : begin + _BATCH], unit=unit))
            optimizer.step()
        with torch.no_grad():
            loss = held.loss(network, unit=unit).item()
        stale = 0 if loss < best_loss else stale + 1
        if not stale:
            best, best_loss = copy.deepcopy(network.state_dict()), loss
        if stale == _PATIENCE:
            break
    network.load_state_dict(best)
    up = Dense(_linear(network.up, 1 / scale), "gelu")
    branches = ((affine.dense,), (up, Dense(_linear(network.down))))
    return (Sum(branches), *([Unit()] if unit else []))


class _Pairs:
    """Inputs of the network, their affine maps, and the old vectors."""

    def __init__(self, affine: Affine, pairs: tuple[Floats, Floats], scale: float) -> None:
        x, y = pairs
        self.x = torch.from_numpy(np.ascontiguousarray(x / scale, np.float32))
        self._begun = torch.from_numpy(affine(x).astype(np.float32))
        self._y = torch.from_numpy(np.ascontiguousarray(y, np.float32))
        self._variance = float(self._y.var(dim=0).sum())

    def loss(self, network: _Correction, places: torch.Tensor | None = None, *, unit: bool) -> torch.Tensor:
        """Mean squared distance to the old vectors, in units of their variance."""
        x, begun, y = (part if places is None else part[places] for part in (self.x, self._begun, self._y))
        mapped = begun + network(x)
        mapped = functional.normalize(mapped, dim=-1) if unit else mapped
        return (mapped - y).square().sum(dim=-1).mean() / self._variance


def _linear(layer: torch.nn.Linear, scale: float = 1.0) -> Linear:
    weight = layer.weight.detach().numpy().T * np.float32(scale)
    return Linear(np.ascontiguousarray(weight, np.float32), layer.bias.detach().numpy())
