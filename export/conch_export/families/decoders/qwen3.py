"""Qwen3 as an embedder or reranker: a causal decoder with shared key heads and normed queries and keys (2025)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from conch_export.families.decoders.qwen2 import Qwen2

if TYPE_CHECKING:
    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights
    from conch_export.model.network import Attention, Rotary


class Qwen3(Qwen2):
    """Every query and key head is normed by itself, before it is turned."""

    model_types = ("qwen3",)
    settings: ClassVar = {**Qwen2.settings, bool: f"{Qwen2.settings[bool]} attention_bias"}

    def attention(self, config: Settings, weights: Weights, rotary: Rotary, name: str) -> Attention:
        """Llama's, with norms."""
        query, key = (weights.rms_norm(f"{name}.{part}_norm", config["rms_norm_eps"]) for part in "qk")
        return replace(super().attention(config, weights, rotary, name), query_norm=query, key_norm=key)


FAMILY = Qwen3()
