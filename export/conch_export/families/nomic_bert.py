"""Nomic BERT: rotary positions, gated feed-forward, no biases (Nussbaum et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conch_export.families import Family
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
    from collections.abc import Mapping

    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights


class NomicBert(Family):
    """The mixture-of-experts variant has other tensors and is not read."""

    model_types = ("nomic_bert",)
    in_transformers = False
    settings: ClassVar = {
        int: "moe_every_n_layers n_embd n_head n_inner n_layer n_positions type_vocab_size vocab_size",
        float: "layer_norm_epsilon rotary_emb_base rotary_emb_fraction rotary_emb_scale_base rotary_scaling_factor",
        bool: "causal mlp_fc1_bias mlp_fc2_bias parallel_block prenorm qkv_proj_bias rotary_emb_interleaved "
        "use_rms_norm",
        str: "activation_function model_type",
    }
    built: ClassVar = {
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

    def reads(self, config: Mapping[str, Any]) -> bool:
        """All without experts."""
        return super().reads(config) and not config.get("moe_every_n_layers")

    def position_count(self, config: Settings) -> int:
        """`n_positions` of config.json."""
        return int(config["n_positions"])

    def has_segments(self, config: Settings) -> bool:
        """Where there is a table of types; embedding models use its first row."""
        return int(config.get("type_vocab_size") or 0) > 0

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights."""
        width, length = config["n_embd"] // config["n_head"], self.position_count(config)
        rotary = Rotary.of(rotary_frequencies(config["rotary_emb_base"], width), length)
        return Encoder(
            embeddings=weights.table("embeddings.word_embeddings"),
            layers=tuple(_layer(config, weights, rotary, index) for index in range(config["n_layer"])),
            max_length=length,
            types=weights.table("embeddings.token_type_embeddings") if self.has_segments(config) else None,
            norm=weights.norm("emb_ln", config["layer_norm_epsilon"]),
        )


def _layer(config: Settings, weights: Weights, rotary: Rotary, index: int) -> Layer:
    name, epsilon, heads = f"encoder.layers.{index}", config["layer_norm_epsilon"], config["n_head"]
    query, key, value = weights.split_linear(f"{name}.attn.Wqkv", 3)
    output = weights.linear(f"{name}.attn.out_proj")
    # fc12 is the one that is activated, hence the gate.
    up, gate, down = (weights.linear(f"{name}.mlp.{part}") for part in ("fc11", "fc12", "fc2"))
    return Layer(
        attention=Attention(query, key, value, output, heads, heads, rotary=rotary),
        attention_norm=weights.norm(f"{name}.norm1", epsilon),
        feed_forward=FeedForward(up, down, Activation.SILU, gate),
        feed_forward_norm=weights.norm(f"{name}.norm2", epsilon),
    )


FAMILY = NomicBert()
