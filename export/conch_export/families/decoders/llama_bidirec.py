"""NVIDIA's llama-nemotron-embed: Llama whose tokens see all of their text (NVIDIA 2025)."""

from __future__ import annotations

from typing import ClassVar

from conch_export.families.decoders.llama import Llama


class LlamaBidirectional(Llama):
    """`pooling` is read by its classifier, not by its encoder."""

    model_types = ("llama_bidirec",)
    in_transformers = False
    causal = False
    settings: ClassVar = {**Llama.settings, bool: "attention_bias mlp_bias"}
    unread: ClassVar = "pooling"


FAMILY = LlamaBidirectional()
