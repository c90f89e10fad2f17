"""Qwen2.5-VL's language model, which reads text alone here: Qwen2 (Bai et al. 2025); jina-embeddings-v4, merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from conch_export.checkpoints.settings import Settings
from conch_export.families.decoders.qwen2 import Qwen2

if TYPE_CHECKING:
    from conch_export.checkpoints.weights import Weights
    from conch_export.model.network import Encoder

_SECTIONS = ("mrope_section", "mrope_interleaved")
"""Which part of a head's width turns by which of the three positions."""


class Qwen25Vl(Qwen2):
    """Qwen2 whose rotary positions have three parts (time, height, width), which are one number for text."""

    model_types = ("qwen2_5_vl_text",)
    # About what is no text.
    unread: ClassVar = (
        "image_token_id video_token_id vision_config vision_end_token_id vision_start_token_id vision_token_id"
    )
    # In the whole model, with a head or without, and in a model of its own.
    key_mapping: ClassVar = {r"^model\.language_model\.": "model.", r"^language_model\.": ""}

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The decoder with its weights."""
        scaling = config.inner("rope_scaling")
        others = {key: value for key, value in scaling.items() if key not in _SECTIONS and value != "mrope"}
        return super().encoder(Settings(config.place, {**config, "rope_scaling": others}), weights)


FAMILY = Qwen25Vl()
