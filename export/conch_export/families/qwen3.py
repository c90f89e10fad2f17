"""Qwen3 as an embedder or reranker: a causal decoder with shared key heads and normed queries and keys (2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from conch_export.families import Family
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer, Rotary, rotary_frequencies

if TYPE_CHECKING:
    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights


class Qwen3(Family):
    """A decoder, up to its last norm."""

    model_types = ("qwen3",)
    settings: ClassVar = {
        int: "head_dim hidden_size intermediate_size max_position_embeddings num_attention_heads num_hidden_layers "
        "num_key_value_heads pad_token_id sliding_window vocab_size",
        float: "rms_norm_eps rope_theta",
        bool: "attention_bias use_sliding_window",
        str: "hidden_act model_type",
        list: "layer_types",
        dict: "rope_scaling",
    }
    built: ClassVar = {"hidden_act": ("silu",), "rope_scaling": (None,), "use_sliding_window": (False, None)}

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The decoder with its weights."""
        length = self.position_count(config)
        rotary = Rotary.of(rotary_frequencies(config["rope_theta"], config["head_dim"]), length)
        return Encoder(
            embeddings=weights.table("embed_tokens"),
            layers=tuple(_layer(config, weights, rotary, index) for index in range(config["num_hidden_layers"])),
            max_length=length,
            final_norm=weights.rms_norm("norm", config["rms_norm_eps"]),
        )


def _layer(config: Settings, weights: Weights, rotary: Rotary, index: int) -> Layer:
    name, epsilon = f"layers.{index}", config["rms_norm_eps"]
    query, key, value, output = (weights.linear(f"{name}.self_attn.{part}_proj") for part in "qkvo")
    gate, up, down = (weights.linear(f"{name}.mlp.{part}_proj") for part in ("gate", "up", "down"))
    attention = Attention(
        query,
        key,
        value,
        output,
        heads=config["num_attention_heads"],
        key_heads=config["num_key_value_heads"],
        query_norm=weights.rms_norm(f"{name}.self_attn.q_norm", epsilon),
        key_norm=weights.rms_norm(f"{name}.self_attn.k_norm", epsilon),
        rotary=rotary,
        causal=True,
    )
    return Layer(
        attention=attention,
        attention_norm=weights.rms_norm(f"{name}.input_layernorm", epsilon),
        feed_forward=FeedForward(up, down, Activation.SILU, gate),
        feed_forward_norm=weights.rms_norm(f"{name}.post_attention_layernorm", epsilon),
        pre_norm=True,
    )


FAMILY = Qwen3()
