"""Qwen3 as an embedder or reranker: a causal decoder with shared key heads and normed queries and keys (2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conch_export.errors import UnsupportedError
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer, Rotary, rotary_frequencies

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.checkpoints.weights import Weights

IN_TRANSFORMERS = True


def reads(config: dict[str, Any]) -> bool:
    """All of them."""
    return bool(config["model_type"] == "qwen3")


def read_encoder(checkpoint: Checkpoint) -> Encoder:
    """The decoder with its weights, up to its last norm."""
    config, weights = checkpoint.config, checkpoint.weights
    known: dict[str, tuple[Any, ...]] = {
        "hidden_act": ("silu",),
        "rope_scaling": (None,),
        "use_sliding_window": (False, None),
    }
    for key, values in known.items():
        if config.get(key) not in values:
            message = f"{key} = {config[key]!r} is not built for qwen3 (known: {values[0]!r})"
            raise UnsupportedError(message)
    rotary = Rotary.of(rotary_frequencies(config["rope_theta"], config["head_dim"]), position_count(config))
    return Encoder(
        words=weights.table("embed_tokens"),
        layers=tuple(_read_layer(config, weights, rotary, index) for index in range(config["num_hidden_layers"])),
        max_length=position_count(config),
        final_norm=weights.rms_norm("norm", config["rms_norm_eps"]),
    )


def position_count(config: dict[str, Any]) -> int:
    """As many as the authors say; rotary positions have no table that ends."""
    return int(config["max_position_embeddings"])


def has_segments(config: dict[str, Any]) -> bool:  # noqa: ARG001 - the families share this signature
    """Never."""
    return False


def _read_layer(config: dict[str, Any], weights: Weights, rotary: Rotary, index: int) -> Layer:
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
