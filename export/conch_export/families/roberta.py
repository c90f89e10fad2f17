"""RoBERTa, XLM-R and CamemBERT: BERT without segments, positions counted from the padding index (Liu et al. 2019)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from conch_export.families.bert import Bert
from conch_export.families.xlm_roberta_flash import FAMILY as XLM_ROBERTA_FLASH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights
    from conch_export.model.network import Encoder


class Roberta(Bert):
    """The rows of the position table up to the padding index are never used."""

    model_types = ("roberta", "xlm-roberta", "camembert")

    def reads(self, config: Mapping[str, Any]) -> bool:
        """All but those that XLM-R's other family reads."""
        return super().reads(config) and not XLM_ROBERTA_FLASH.reads(config)

    def position_count(self, config: Settings) -> int:
        """The position table without its first, unused rows."""
        return super().position_count(config) - int(config["pad_token_id"]) - 1

    def has_segments(self, config: Settings) -> bool:  # noqa: ARG002
        """Never: all tokens are of the first type."""
        return False

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights, the unused positions cut off."""
        encoder, first = super().encoder(config, weights), config["pad_token_id"] + 1
        positions = weights.table("embeddings.position_embeddings")[first:]
        return replace(encoder, positions=positions, max_length=len(positions))


FAMILY = Roberta()
