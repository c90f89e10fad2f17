"""Mistral: Llama whose tokens see only the nearest ones (Jiang et al. 2023)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from conch_export.families.decoders.llama import Llama

if TYPE_CHECKING:
    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights
    from conch_export.model.network import Attention, Rotary


class Mistral(Llama):
    """A token sees `sliding_window` tokens, itself included, or so many on each side; all where that is null."""

    model_types = ("mistral",)
    settings: ClassVar = {**Llama.settings, int: f"{Llama.settings[int]} sliding_window", bool: "is_causal"}

    def attention(self, config: Settings, weights: Weights, rotary: Rotary, name: str) -> Attention:
        """Llama's, within a window where rows can be longer than that."""
        seen = config["sliding_window"]
        if seen == 0:
            raise config.wrong("sliding_window", "a whole number from 1, or null for none,")
        window = None
        if seen is not None and seen < self.position_count(config):
            window = seen - 1 if self.is_causal(config) else seen
        return replace(super().attention(config, weights, rotary, name), window=window)


FAMILY = Mistral()
