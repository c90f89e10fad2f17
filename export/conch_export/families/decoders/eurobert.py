"""EuroBERT: Llama as an encoder, whose tokens see all of their text (Boizard et al. 2025)."""

from __future__ import annotations

from typing import ClassVar

from conch_export.families.decoders.llama import Llama


class EuroBert(Llama):
    """Code of its own on the Hub, and a part of transformers since version 5."""

    model_types = ("eurobert",)
    in_transformers = False
    causal = False
    settings: ClassVar = {**Llama.settings, bool: "attention_bias mlp_bias"}
    # Special tokens by their text, and what its classifier or its training reads.
    unread: ClassVar = (
        "bos_token classifier_pooling clf_pooling eos_token hidden_dropout is_decoder mask_token pad_token"
    )


FAMILY = EuroBert()
