"""Qwen2 and Qwen2.5 as an embedder or reranker: Llama with biases of queries, keys and values (Yang et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from conch_export.errors import UnsupportedError
from conch_export.families.decoders.llama import Llama

if TYPE_CHECKING:
    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights
    from conch_export.model.network import Encoder


class Qwen2(Llama):
    """Llama whose queries, keys and values may have biases, which are read where the checkpoint has them."""

    model_types = ("qwen2",)
    settings: ClassVar = {
        **Llama.settings,
        int: f"{Llama.settings[int]} sliding_window",
        bool: "is_causal use_mrope use_sliding_window",
        list: "layer_types",
    }
    # Qwen2.5's base models state that their positions do not have three parts; transformers does not read it.
    built: ClassVar = {**Llama.built, "use_sliding_window": (False, None), "use_mrope": (False, None)}

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The decoder with its weights."""
        if others := sorted(set(config.texts("layer_types")) - {"full_attention"}):
            msg = f"layer_types with {', '.join(others)} are not built for {config['model_type']}: only full_attention"
            raise UnsupportedError(msg)
        return super().encoder(config, weights)


FAMILY = Qwen2()
