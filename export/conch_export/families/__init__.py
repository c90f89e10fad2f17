"""Encoder families: one module each, found by the `MODEL_TYPES` it names.

A module reads a checkpoint of its family into the family-neutral description that `graphs.encoder` builds from:

    MODEL_TYPES: tuple[str, ...]                      transformers' `model_type`s
    read_encoder(checkpoint) -> Encoder               raises UnsupportedError for variants it does not know
    read_classifier(checkpoint) -> Classifier         the head of a one-label sequence classifier
    position_count(config) -> int                     most tokens that a row may have
    has_segments(config) -> bool                      whether text pairs are told apart by token_type_ids
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from conch_export.checkpoint import Checkpoint
    from conch_export.graphs.encoder import Encoder
    from conch_export.graphs.heads import Classifier


class Family(Protocol):
    """What each module of this package offers."""

    MODEL_TYPES: tuple[str, ...]

    def read_encoder(self, checkpoint: Checkpoint, /) -> Encoder:
        """The encoder with its weights."""

    def read_classifier(self, checkpoint: Checkpoint, /) -> Classifier:
        """The classification head with its weights."""

    def position_count(self, config: dict[str, Any], /) -> int:
        """Most tokens that a row may have."""

    def has_segments(self, config: dict[str, Any], /) -> bool:
        """Whether text pairs are told apart by token_type_ids."""


def family_of(model_type: str) -> Family | None:
    """The family that reads this `model_type`, if there is one."""
    for module in pkgutil.iter_modules(__path__):
        family = cast("Family", importlib.import_module(f"{__name__}.{module.name}"))
        if model_type in family.MODEL_TYPES:
            return family
    return None
