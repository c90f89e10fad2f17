"""Qwen2 and Qwen2.5 as an embedder or reranker: Llama with biases of queries, keys and values (Yang et al. 2024)."""

from __future__ import annotations

from typing import ClassVar

from conch_export.families.decoders.llama import Llama


class Qwen2(Llama):
    """Its biases are read where the checkpoint has them, as all biases are."""

    model_types = ("qwen2",)
    settings: ClassVar = {
        **Llama.settings,
        int: f"{Llama.settings[int]} sliding_window",
        bool: "use_sliding_window",
        list: "layer_types",
    }
    built: ClassVar = {**Llama.built, "use_sliding_window": (False, None)}


FAMILY = Qwen2()
