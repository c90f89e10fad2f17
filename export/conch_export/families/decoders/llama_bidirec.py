"""NVIDIA's llama-nemotron-embed: Llama whose tokens see all of their text (NVIDIA 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from conch_export.families.decoders.llama import Llama

if TYPE_CHECKING:
    from conch_export.checkpoints.settings import Settings


class LlamaBidirectional(Llama):
    """`pooling` is read by its classifier, not by its encoder."""

    model_types = ("llama_bidirec",)
    in_transformers = False
    settings: ClassVar = {**Llama.settings, bool: "attention_bias mlp_bias"}
    unread: ClassVar = "pooling"

    def is_causal(self, config: Settings) -> bool:  # noqa: ARG002
        """Never."""
        return False


FAMILY = LlamaBidirectional()
