"""Encoder families: one module each; adding one is adding its file.

A module reads a checkpoint of its family into the family-neutral description that `graphs.encoder` builds from:

    IN_TRANSFORMERS: bool                             whether transformers itself implements it, to compare with
    reads(config) -> bool                             whether this config.json is of the family
    read_encoder(checkpoint) -> Encoder               raises UnsupportedError for variants it does not know
    position_count(config) -> int                     most tokens that a row may have
    has_segments(config) -> bool                      whether text pairs are told apart by token_type_ids
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from conch_export.checkpoint import Checkpoint
    from conch_export.graphs.network import Encoder


class Family(Protocol):
    """What each module of this package offers."""

    IN_TRANSFORMERS: bool

    def reads(self, config: dict[str, Any], /) -> bool:
        """Whether this config.json is of the family."""

    def read_encoder(self, checkpoint: Checkpoint, /) -> Encoder:
        """The encoder with its weights."""

    def position_count(self, config: dict[str, Any], /) -> int:
        """Most tokens that a row may have."""

    def has_segments(self, config: dict[str, Any], /) -> bool:
        """Whether text pairs are told apart by token_type_ids."""


def family_of(config: dict[str, Any]) -> Family | None:
    """The family that reads this config.json, if there is one."""
    for module in pkgutil.iter_modules(__path__):
        family = cast("Family", importlib.import_module(f"{__name__}.{module.name}"))
        if family.reads(config):
            return family
    return None
