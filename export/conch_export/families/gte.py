"""GTE v1.5: rotary positions stretched over a longer range, gated feed-forward (Zhang et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conch_export.errors import UnsupportedError
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer, Rotary, rotary_frequencies

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.checkpoints.weights import Weights

IN_TRANSFORMERS = False


def reads(config: dict[str, Any]) -> bool:
    """The authors' code calls its architecture `new`."""
    return bool(config["model_type"] == "new" and config.get("position_embedding_type") == "rope")


def read_encoder(checkpoint: Checkpoint) -> Encoder:
    """The encoder with its weights."""
    config, weights = checkpoint.config, checkpoint.weights
    known = {"hidden_act": "gelu", "layer_norm_type": "layer_norm", "pack_qkv": True, "logn_attention_scale": False}
    for key, value in known.items():
        if config.get(key, value) != value:
            message = f"{key} = {config[key]!r} is not built for GTE (known: {value!r})"
            raise UnsupportedError(message)
    rotary = Rotary.of(_frequencies(config), position_count(config))
    return Encoder(
        words=weights.table("embeddings.word_embeddings"),
        layers=tuple(_read_layer(config, weights, rotary, index) for index in range(config["num_hidden_layers"])),
        max_length=position_count(config),
        types=weights.table("embeddings.token_type_embeddings") if config.get("type_vocab_size") else None,
        norm=weights.norm("embeddings.LayerNorm", config["layer_norm_eps"]),
    )


def position_count(config: dict[str, Any]) -> int:
    """As many as the authors say; rotary positions have no table that ends."""
    return int(config["max_position_embeddings"])


def has_segments(config: dict[str, Any]) -> bool:
    """Where the checkpoint has a table of more than one."""
    return int(config.get("type_vocab_size") or 0) > 1


def _frequencies(config: dict[str, Any]) -> NDArray[np.float64]:
    """Those of a longer range by fixed NTK scaling: a larger base, and all a little slower (kexue.fm/archives/9706)."""
    width = config["hidden_size"] // config["num_attention_heads"]
    scaling = config.get("rope_scaling")
    if scaling is None:
        return rotary_frequencies(config["rope_theta"], width)
    if scaling.get("type") != "ntk" or scaling.get("mixed_b") is not None:
        message = f"rope_scaling = {scaling!r} is not built for GTE (known: type 'ntk')"
        raise UnsupportedError(message)
    factor = float(scaling["factor"])
    return np.asarray(rotary_frequencies(config["rope_theta"] * factor, width) / factor ** (2 / width))


def _read_layer(config: dict[str, Any], weights: Weights, rotary: Rotary, index: int) -> Layer:
    name, epsilon, heads = f"encoder.layer.{index}", config["layer_norm_eps"], int(config["num_attention_heads"])
    query, key, value = weights.split_linear(f"{name}.attention.qkv_proj", 3)
    up, gate = weights.split_linear(f"{name}.mlp.up_gate_proj", 2)
    return Layer(
        attention=Attention(query, key, value, weights.linear(f"{name}.attention.o_proj"), heads, heads, rotary=rotary),
        attention_norm=weights.norm(f"{name}.attn_ln", epsilon),
        feed_forward=FeedForward(up, weights.linear(f"{name}.mlp.down_proj"), Activation.GELU, gate),
        feed_forward_norm=weights.norm(f"{name}.mlp_ln", epsilon),
    )
