"""RoBERTa and XLM-RoBERTa: BERT without segments, positions counted from the padding index (Liu et al. 2019)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from conch_export.families import bert

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.model.network import Encoder

IN_TRANSFORMERS = True


def reads(config: dict[str, Any]) -> bool:
    """Both have the same tensors."""
    return config["model_type"] in ("roberta", "xlm-roberta")


def read_encoder(checkpoint: Checkpoint) -> Encoder:
    """The encoder with its weights; the unused first positions are cut off."""
    encoder, offset = bert.read_encoder(checkpoint), _offset(checkpoint.config)
    positions = None if encoder.positions is None else encoder.positions[offset:]
    return replace(encoder, positions=positions, max_length=encoder.max_length - offset)


def position_count(config: dict[str, Any]) -> int:
    """The position table without its first, unused rows."""
    return int(config["max_position_embeddings"]) - _offset(config)


def has_segments(config: dict[str, Any]) -> bool:  # noqa: ARG001 - the families share this signature
    """Never."""
    return False


def _offset(config: dict[str, Any]) -> int:
    return int(config["pad_token_id"]) + 1
