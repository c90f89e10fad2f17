"""The encoder of a plan, or the table of a static model, as data: shapes are known, and no matrix is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_export.build import encoder_of
from conch_export.errors import UnsupportedError

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.model.description import Description
    from conch_export.model.heads import Static
    from conch_export.model.network import Encoder


def planned_encoder(description: Description, checkpoint: Checkpoint) -> Encoder | Static:
    """The encoder, or the whole of a static model; raises UnsupportedError where no family reads it."""
    if (encoder := encoder_of(description, checkpoint)) is None:
        msg = (
            f"the memory of architecture {description.architecture!r} is not planned, no family here reads it: "
            "export it and measure it with `conch verify`"
        )
        raise UnsupportedError(msg)
    return encoder
