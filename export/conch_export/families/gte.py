"""GTE v1.5 and mGTE: rotary positions, often stretched over a longer range, gated feed-forward (Zhang et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conch_export.errors import UnsupportedError
from conch_export.families import Family
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer, Rotary, rotary_frequencies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights


class Gte(Family):
    """The authors' code calls its architecture `new`; Snowflake's copy of it, and transformers since 5, `gte`."""

    model_types = ("new", "gte")
    in_transformers = False
    settings: ClassVar = {
        int: "hidden_size intermediate_size max_position_embeddings num_attention_heads num_hidden_layers pad_token_id "
        "type_vocab_size vocab_size",
        float: "layer_norm_eps rope_theta",
        bool: "logn_attention_clip1 logn_attention_scale pack_qkv",
        str: "hidden_act layer_norm_type model_type position_embedding_type",
        dict: "rope_scaling",
    }
    built: ClassVar = {
        "hidden_act": ("gelu", None),
        "layer_norm_type": ("layer_norm", None),
        "pack_qkv": (True, None),
        "logn_attention_scale": (False, None),
    }

    def reads(self, config: Mapping[str, Any]) -> bool:
        """All with rotary positions, which are the default of its authors and the only ones in transformers."""
        return super().reads(config) and config.get("position_embedding_type") in ("rope", None)

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights."""
        rotary = Rotary.of(_frequencies(config), self.position_count(config))
        return Encoder(
            embeddings=weights.table("embeddings.word_embeddings"),
            layers=tuple(_layer(config, weights, rotary, index) for index in range(config["num_hidden_layers"])),
            max_length=self.position_count(config),
            types=weights.table("embeddings.token_type_embeddings") if config.get("type_vocab_size") else None,
            norm=weights.norm("embeddings.LayerNorm", config["layer_norm_eps"]),
        )


def _frequencies(config: Settings) -> NDArray[np.float64]:
    """Frequencies for a longer range by fixed NTK scaling: a larger base, and all slower (kexue.fm/archives/9706)."""
    width = config["hidden_size"] // config["num_attention_heads"]
    scaling = config.inner("rope_scaling")
    if not scaling:
        return rotary_frequencies(config["rope_theta"], width)
    factor = scaling.of("factor", float, 0.0)
    if scaling.get("type") != "ntk" or scaling.get("mixed_b") is not None or factor <= 1:
        known = f"{config['model_type']} (known: type 'ntk' with a factor above 1)"
        raise UnsupportedError(f"rope_scaling = {dict(scaling)!r} is not built for {known}")
    return np.asarray(rotary_frequencies(config["rope_theta"] * factor, width) / factor ** (2 / width))


def _layer(config: Settings, weights: Weights, rotary: Rotary, index: int) -> Layer:
    name, epsilon, heads = f"encoder.layer.{index}", config["layer_norm_eps"], config["num_attention_heads"]
    query, key, value = weights.split_linear(f"{name}.attention.qkv_proj", 3)
    up, gate = weights.split_linear(f"{name}.mlp.up_gate_proj", 2)
    return Layer(
        attention=Attention(query, key, value, weights.linear(f"{name}.attention.o_proj"), heads, heads, rotary=rotary),
        attention_norm=weights.norm(f"{name}.attn_ln", epsilon),
        feed_forward=FeedForward(up, weights.linear(f"{name}.mlp.down_proj"), Activation.GELU, gate),
        feed_forward_norm=weights.norm(f"{name}.mlp_ln", epsilon),
    )


FAMILY = Gte()
