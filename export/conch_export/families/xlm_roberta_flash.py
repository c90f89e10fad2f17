"""XLM-R as Jina wrote it anew: joined products, rotary or absolute positions, adapters (Sturua et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conch_export.families import Family
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer, Rotary, rotary_frequencies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights

_OWN = "jina_embeddings_v3"
"""transformers 5's name of the architecture with rotary positions."""


class XlmRobertaFlash(Family):
    """Read by jina-embeddings-v3, jina-colbert-v2 and jina-reranker-v2; the last has XLM-R's absolute positions."""

    model_types = ("xlm-roberta", _OWN)
    in_transformers = False
    settings: ClassVar = {
        int: "hidden_size intermediate_size lora_rank max_position_embeddings num_attention_heads num_hidden_layers "
        "pad_token_id truncate_dim type_vocab_size vocab_size",
        float: "layer_norm_eps lora_alpha rope_theta rotary_emb_base",
        bool: "is_decoder load_trained_adapters",
        str: "emb_pooler hidden_act model_type position_embedding_type",
        list: "lora_adaptations",
        dict: "rope_scaling task_instructions",
    }
    built: ClassVar = {
        "hidden_act": ("gelu",),
        "is_decoder": (False, None),
        "position_embedding_type": ("rotary", "absolute", None),
        "rope_scaling": (None,),
        "truncate_dim": (None,),
        "emb_pooler": (None, "mean"),
    }

    def reads(self, config: Mapping[str, Any]) -> bool:
        """Whether Jina's code computes it: `xlm-roberta` alone is transformers' own."""
        code = str((config.get("auto_map") or {}).get("AutoConfig", ""))
        is_jinas = code.endswith(".XLMRobertaFlashConfig") or config["model_type"] == _OWN
        return super().reads(config) and (is_jinas or config.get("position_embedding_type") == "rotary")

    def position_count(self, config: Settings) -> int:
        """The number stated, without the rows of a position table up to the padding index."""
        unused = 0 if _is_rotary(config) else int(config["pad_token_id"]) + 1
        return super().position_count(config) - unused

    def has_segments(self, config: Settings) -> bool:  # noqa: ARG002
        """Never: all tokens are of the first type."""
        return False

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights."""
        length, rotary, table = self.position_count(config), None, None
        if _is_rotary(config):
            base = config["rope_theta" if config["model_type"] == _OWN else "rotary_emb_base"]
            width = config["hidden_size"] // config["num_attention_heads"]
            rotary = Rotary.of(rotary_frequencies(base, width), length)
        else:
            table = weights.table("embeddings.position_embeddings")[int(config["pad_token_id"]) + 1 :]
        return Encoder(
            embeddings=weights.table("embeddings.word_embeddings"),
            layers=tuple(_layer(config, weights, rotary, index) for index in range(config["num_hidden_layers"])),
            max_length=length if table is None else len(table),
            positions=table,
            types=weights.table("embeddings.token_type_embeddings") if config.get("type_vocab_size") else None,
            norm=weights.norm("emb_ln", config["layer_norm_eps"]),
        )


def _is_rotary(config: Settings) -> bool:
    return str(config["model_type"]) == _OWN or str(config["position_embedding_type"]) == "rotary"


def _layer(config: Settings, weights: Weights, rotary: Rotary | None, index: int) -> Layer:
    name, epsilon, heads = f"encoder.layers.{index}", config["layer_norm_eps"], config["num_attention_heads"]
    query, key, value = weights.split_linear(f"{name}.mixer.Wqkv", 3)
    output = weights.linear(f"{name}.mixer.out_proj")
    up, down = weights.linear(f"{name}.mlp.fc1"), weights.linear(f"{name}.mlp.fc2")
    return Layer(
        attention=Attention(query, key, value, output, heads, heads, rotary=rotary),
        attention_norm=weights.norm(f"{name}.norm1", epsilon),
        feed_forward=FeedForward(up, down, Activation.GELU),
        feed_forward_norm=weights.norm(f"{name}.norm2", epsilon),
    )


FAMILY = XlmRobertaFlash()
