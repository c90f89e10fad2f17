"""Encoders and descriptions of small checkpoints, as an export reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_export import Overrides, Precision
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.describe import describe
from conch_export.families import family_of
from conch_export.sources.source import Source

if TYPE_CHECKING:
    from pathlib import Path

    from conch_export import Description
    from conch_export.model.network import Encoder


def read_encoder(folder: Path, adapter: str = "") -> Encoder:
    """The encoder of a checkpoint that has a family."""
    checkpoint = Checkpoint(folder, adapter)
    family = family_of(checkpoint.config)
    assert family is not None
    return family.read_encoder(checkpoint.config, checkpoint.weights)


def described(folder: Path) -> Description:
    """The description of a checkpoint's folder of which the operator states nothing."""
    source = Source(folder, "folder:x", "", "0" * 64)
    return describe(Checkpoint(folder), source, "x", Precision.FP32, Overrides())
