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

from conch_export.errors import SourceError
from conch_export.model.shapes import refuse_misfits

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.model.network import Encoder


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
    """The family that reads this config.json, if there is one.

    What transformers computes is not what a checkpoint's own code computes, whatever architecture it calls itself.
    """
    own_code = any(name.startswith("AutoModel") for name in config.get("auto_map") or {})
    for module in pkgutil.iter_modules(__path__):
        family = cast("Family", importlib.import_module(f"{__name__}.{module.name}"))
        if family.reads(config):
            return None if own_code and family.IN_TRANSFORMERS else family
    return None


def read_encoder(family: Family, checkpoint: Checkpoint) -> Encoder:
    """The encoder with its weights, which fit each other.

    Raises:
        UnsupportedError: a variant that the family does not know.
        SourceError: a tensor is missing, or of another model.
    """
    config, encoder = checkpoint.config, family.read_encoder(checkpoint)
    hidden, inner = (config.get(old, config.get(new)) for old, new in _WIDTHS)
    refuse_misfits(encoder, config["vocab_size"], int(hidden or 0), int(inner or 0))
    if encoder.max_length != family.position_count(config):
        message = (
            f"{config.place} states {family.position_count(config)} positions, the checkpoint has "
            f"{encoder.max_length}: its files are not of one model, fetch it again"
        )
        raise SourceError(message)
    return encoder


_WIDTHS = (("n_embd", "hidden_size"), ("n_inner", "intermediate_size"))
