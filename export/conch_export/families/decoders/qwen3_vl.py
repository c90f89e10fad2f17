"""Qwen3-VL's language model, which reads text alone here: Qwen3 (Qwen Team 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from conch_export.families.decoders.qwen2_5_vl import INNER_NAMES, VISION, with_one_position
from conch_export.families.decoders.qwen3 import Qwen3

if TYPE_CHECKING:
    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights
    from conch_export.model.network import Encoder


class Qwen3Vl(Qwen3):
    """Qwen3: what images add to the first layers is left out, as there are none."""

    model_types = ("qwen3_vl_text",)
    unread: ClassVar = VISION
    key_mapping: ClassVar = INNER_NAMES

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The decoder with its weights."""
        return super().encoder(with_one_position(config), weights)


FAMILY = Qwen3Vl()
