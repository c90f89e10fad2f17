"""DistilBERT: BERT without segments, under names of its own (Sanh et al. 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from conch_export.families import Family
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer

if TYPE_CHECKING:
    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights

_EPSILON = 1e-12
"""Epsilon of all norms, which config.json does not state."""


class DistilBert(Family):
    """Sinusoidal positions are stored as a table, like learnt ones."""

    model_types = ("distilbert",)
    settings: ClassVar = {
        int: "dim hidden_dim max_position_embeddings n_heads n_layers pad_token_id vocab_size",
        str: "activation model_type",
    }
    built: ClassVar = {"activation": ("gelu", "relu")}

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights."""
        positions = weights.table("embeddings.position_embeddings")
        return Encoder(
            embeddings=weights.table("embeddings.word_embeddings"),
            layers=tuple(_layer(config, weights, index) for index in range(config["n_layers"])),
            max_length=len(positions),
            positions=positions,
            norm=weights.norm("embeddings.LayerNorm", _EPSILON),
        )


def _layer(config: Settings, weights: Weights, index: int) -> Layer:
    name, heads = f"transformer.layer.{index}", config["n_heads"]
    query, key, value, output = (weights.linear(f"{name}.attention.{part}_lin") for part in ("q", "k", "v", "out"))
    up, down = weights.linear(f"{name}.ffn.lin1"), weights.linear(f"{name}.ffn.lin2")
    return Layer(
        attention=Attention(query, key, value, output, heads, heads),
        attention_norm=weights.norm(f"{name}.sa_layer_norm", _EPSILON),
        feed_forward=FeedForward(up, down, Activation(config["activation"])),
        feed_forward_norm=weights.norm(f"{name}.output_layer_norm", _EPSILON),
    )


FAMILY = DistilBert()
