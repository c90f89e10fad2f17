"""Nomic BERT: rotary positions, gated feed-forward or a mixture of experts (Nussbaum et al. 2024, 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from conch_export.errors import UnsupportedError
from conch_export.families import Family
from conch_export.model.network import (
    Activation,
    Attention,
    Encoder,
    Experts,
    FeedForward,
    Layer,
    Linear,
    Rotary,
    rotary_frequencies,
)

if TYPE_CHECKING:
    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights


class NomicBert(Family):
    """Nomic BERT, whose config.json has the names of GPT-2's settings."""

    model_types = ("nomic_bert",)
    in_transformers = False
    settings: ClassVar = {
        int: "ffn_div max_trained_positions moe_every_n_layers moe_top_k n_embd n_head n_inner n_layer n_positions "
        "num_experts num_shared_experts pad_token_id type_vocab_size vocab_size",
        float: "layer_norm_epsilon rotary_emb_base rotary_emb_fraction rotary_emb_scale_base rotary_scaling_factor",
        bool: "causal dense_seq_output expert_choice_router mlp_fc1_bias mlp_fc2_bias moe_normalize_expert_weights "
        "parallel_block parallel_block_tied_norm prenorm qkv_proj_bias reorder_and_upcast_attn rotary_emb_interleaved "
        "scale_attn_by_inverse_layer_idx scale_attn_weights use_rms_norm",
        str: "activation_function model_type moe_impl",
    }
    built: ClassVar = {
        "activation_function": ("swiglu", "gelu"),
        "prenorm": (False, None),
        "rotary_emb_fraction": (1, 1.0),
        "rotary_emb_interleaved": (False, None),
        "rotary_emb_scale_base": (None,),
        "rotary_scaling_factor": (None,),
        "use_rms_norm": (False, None),
        "parallel_block": (False, None),
        "causal": (False, None),
        "scale_attn_weights": (True, None),
        "scale_attn_by_inverse_layer_idx": (False, None),
        "moe_normalize_expert_weights": (False, None),
        "expert_choice_router": (False, None),
        "num_shared_experts": (0, None),
        "ffn_div": (1, None),
    }

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
    every = config.get("moe_every_n_layers") or 0
    # The second layer is the first with experts.
    read = _experts if every and index % every == 1 else _feed_forward
    return Layer(
        attention=Attention(query, key, value, output, heads, heads, rotary=rotary),
        attention_norm=weights.norm(f"{name}.norm1", epsilon),
        feed_forward=read(config, weights, f"{name}.mlp"),
        feed_forward_norm=weights.norm(f"{name}.norm2", epsilon),
    )


def _feed_forward(config: Settings, weights: Weights, name: str) -> FeedForward:
    down = weights.linear(f"{name}.fc2")
    if config["activation_function"] == "gelu":
        return FeedForward(weights.linear(f"{name}.fc1"), down, Activation.GELU)
    # fc12 is the one that is activated, hence the gate.
    up, gate = weights.linear(f"{name}.fc11"), weights.linear(f"{name}.fc12")
    return FeedForward(up, down, Activation.SILU, gate)


def _experts(config: Settings, weights: Weights, name: str) -> Experts:
    """The networks' weights lie one below the other in two tensors [experts * inner, hidden]."""
    if config["activation_function"] != "gelu":
        raise UnsupportedError(f"{config.place} states experts with {config['activation_function']} (known: gelu)")
    ups, downs = (weights.stacked(f"{name}.experts.mlp.{part}", config["num_experts"]) for part in ("w1", "w2"))
    networks = [FeedForward(Linear(up.T), Linear(down), Activation.GELU) for up, down in zip(ups, downs, strict=True)]
    router, bias = weights.linear(f"{name}.router.layer"), np.asarray(weights.array(f"{name}.experts.bias"))
    return Experts(router, tuple(networks), config["moe_top_k"], bias)


FAMILY = NomicBert()
