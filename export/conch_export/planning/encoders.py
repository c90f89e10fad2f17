"""The encoder of a plan, or the table of a static model, as data: shapes are known, and no matrix is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_export.checkpoints.heads import read_static
from conch_export.errors import UnsupportedError
from conch_export.families import family_of
from conch_export.model.description import StaticModel

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.model.description import Description
    from conch_export.model.heads import Static
    from conch_export.model.network import Encoder


def encoder_of(description: Description, checkpoint: Checkpoint) -> Encoder | Static:
    """Return what is before the heads: the encoder, or the whole of a static model; raises UnsupportedError."""
    if isinstance(description, StaticModel) and checkpoint.static is not None:
        return read_static(description, checkpoint.static, checkpoint)
    if (family := family_of(checkpoint.config)) is None:
        msg = (
            f"the memory of architecture {description.architecture!r} is not planned, no family here reads it: "
            "export it and measure it with `conch verify`"
        )
        raise UnsupportedError(msg)
    return family.read_encoder(checkpoint.config, checkpoint.weights)
