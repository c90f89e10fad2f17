"""MPNet: BERT with relative positions on top of absolute ones counted from 2 (Song et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from conch_export.families import Family
from conch_export.model.distances import RelativeBias
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer

if TYPE_CHECKING:
    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights

_FARTHEST = 128
"""Distances from here on share a bucket."""
_FIRST = 2
"""The first row of the position table that is used: transformers takes 1 for the padding index whatever is stated."""


class Mpnet(Family):
    """The rows of the position table up to the padding index are never used."""

    model_types = ("mpnet",)
    settings: ClassVar = {
        int: "hidden_size intermediate_size max_position_embeddings num_attention_heads num_hidden_layers "
        "relative_attention_num_buckets vocab_size",
        float: "layer_norm_eps",
        str: "hidden_act model_type",
    }
    # transformers looks up 32 buckets whatever config.json states.
    built: ClassVar = {"hidden_act": ("gelu",), "relative_attention_num_buckets": (32,)}
    unread: ClassVar = "pad_token_id"

    def position_count(self, config: Settings) -> int:
        """The position table without its first, unused rows."""
        return super().position_count(config) - _FIRST

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights, the unused positions cut off."""
        positions = weights.table("embeddings.position_embeddings")[_FIRST:]
        bias = RelativeBias.of(np.asarray(weights.table("encoder.relative_attention_bias")), _FARTHEST)
        return Encoder(
            embeddings=weights.table("embeddings.word_embeddings"),
            layers=tuple(_layer(config, weights, bias, index) for index in range(config["num_hidden_layers"])),
            max_length=len(positions),
            positions=positions,
            norm=weights.norm("embeddings.LayerNorm", config["layer_norm_eps"]),
        )


def _layer(config: Settings, weights: Weights, bias: RelativeBias, index: int) -> Layer:
    name, epsilon, heads = f"encoder.layer.{index}", config["layer_norm_eps"], config["num_attention_heads"]
    query, key, value, output = (weights.linear(f"{name}.attention.attn.{part}") for part in "qkvo")
    up, down = weights.linear(f"{name}.intermediate.dense"), weights.linear(f"{name}.output.dense")
    return Layer(
        attention=Attention(query, key, value, output, heads, heads, bias=bias),
        attention_norm=weights.norm(f"{name}.attention.LayerNorm", epsilon),
        feed_forward=FeedForward(up, down, Activation.GELU),
        feed_forward_norm=weights.norm(f"{name}.output.LayerNorm", epsilon),
    )


FAMILY = Mpnet()
