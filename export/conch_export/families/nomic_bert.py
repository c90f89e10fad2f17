"""Nomic BERT: rotary positions, gated feed-forward, no biases (Nussbaum et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conch_export.errors import UnsupportedError
from conch_export.model.network import (
    Activation,
    Attention,
    Encoder,
    FeedForward,
    Layer,
    Rotary,
    rotary_frequencies,
)

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.checkpoints.weights import Weights

_KNOWN: dict[str, tuple[Any, ...]] = {
    "activation_function": ("swiglu",),
    "prenorm": (False,),
    "rotary_emb_fraction": (1, 1.0),
    "rotary_emb_interleaved": (False, None),
    "rotary_emb_scale_base": (None,),
    "rotary_scaling_factor": (None,),
    "use_rms_norm": (False, None),
    "parallel_block": (False, None),
    "causal": (False, None),
}

IN_TRANSFORMERS = False


def reads(config: dict[str, Any]) -> bool:
    """As the Hub's checkpoints are; the mixture-of-experts variant has other tensors."""
    return bool(config["model_type"] == "nomic_bert" and not config.get("moe_every_n_layers"))


def read_encoder(checkpoint: Checkpoint) -> Encoder:
    """The encoder with its weights."""
    config, weights = checkpoint.config, checkpoint.weights
    for key, values in _KNOWN.items():
        if config.get(key) not in values:
            message = f"{key} = {config.get(key)!r} is not built for nomic_bert (known: {values[0]!r})"
            raise UnsupportedError(message)
    epsilon = config["layer_norm_epsilon"]
    width = config["n_embd"] // config["n_head"]
    rotary = Rotary.of(rotary_frequencies(config["rotary_emb_base"], width), position_count(config))
    return Encoder(
        words=weights.table("embeddings.word_embeddings"),
        layers=tuple(_read_layer(config, weights, rotary, index) for index in range(config["n_layer"])),
        max_length=position_count(config),
        types=weights.table("embeddings.token_type_embeddings") if has_segments(config) else None,
        norm=weights.norm("emb_ln", epsilon),
    )


def position_count(config: dict[str, Any]) -> int:
    """As many as the authors say; rotary positions have no table that ends."""
    return int(config["n_positions"])


def has_segments(config: dict[str, Any]) -> bool:
    """Two segments, of which embedding models use the first."""
    return int(config.get("type_vocab_size") or 0) > 0


def _read_layer(config: dict[str, Any], weights: Weights, rotary: Rotary, index: int) -> Layer:
    name, epsilon, heads = f"encoder.layers.{index}", config["layer_norm_epsilon"], int(config["n_head"])
    query, key, value = weights.split_linear(f"{name}.attn.Wqkv", 3)
    output = weights.linear(f"{name}.attn.out_proj")
    up, gate, down = (weights.linear(f"{name}.mlp.{part}") for part in ("fc11", "fc12", "fc2"))
    return Layer(
        attention=Attention(query, key, value, output, heads, heads, rotary=rotary),
        attention_norm=weights.norm(f"{name}.norm1", epsilon),
        feed_forward=FeedForward(up, down, Activation.SILU, gate),
        feed_forward_norm=weights.norm(f"{name}.norm2", epsilon),
    )
