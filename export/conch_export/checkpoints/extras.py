"""Layers in files of their own beside a checkpoint's weights, as BGE-M3 has them for two more kinds of answer.

On the Hub they are pickles, which are never loaded; converted, they have the names that are read here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conch_export.checkpoints.weights import Weights
from conch_export.errors import UnsupportedError
from conch_export.model.network import Linear

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint

LEXICAL, COLBERT = "sparse_linear", "colbert_linear"
_CONVERT = (
    'python -c "import torch, safetensors.torch as s; '
    "s.save_file(torch.load('{0}.pt', weights_only=True), '{0}.safetensors')\""
)


def read_extra(checkpoint: Checkpoint, name: str) -> Linear | None:
    """The layer of that name, or None where there is no file of it.

    Raises:
        UnsupportedError: there is one, but a pickle.
    """
    path = checkpoint.folder / f"{name}.safetensors"
    if path.exists():
        weights = Weights.load([path])
        bias = weights.array("bias") if "bias" in weights else None
        return Linear(np.ascontiguousarray(weights.array("weight").T), bias)
    if (checkpoint.folder / f"{name}.pt").exists():
        message = f"{name}.pt is a pickle, which can run code and is never loaded: convert it, {_CONVERT.format(name)}"
        raise UnsupportedError(message)
    return None


def extra_width(checkpoint: Checkpoint, name: str) -> int:
    """Numbers that the layer of that name gives; 0 where there is no file that can be read."""
    layer = read_extra(checkpoint, name) if (checkpoint.folder / f"{name}.safetensors").exists() else None
    return 0 if layer is None else int(layer.weight.shape[1])


def has_lexical(checkpoint: Checkpoint, asked: bool | None) -> bool:  # noqa: FBT001 - mirrors the override
    """Whether the weights of words are served: as the operator says, or else if the layer is there.

    Raises:
        UnsupportedError: they are asked for and there is no layer.
    """
    if asked is None:
        return extra_width(checkpoint, LEXICAL) > 0
    if asked and read_extra(checkpoint, LEXICAL) is None:
        message = (
            f"--lexical needs {LEXICAL}.safetensors beside the checkpoint; from the pickle that its authors publish: "
            f"{_CONVERT.format(LEXICAL)}"
        )
        raise UnsupportedError(message)
    return asked
