"""BERT: absolute positions, segments, post-norm blocks, plain GELU feed-forward (Devlin et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conch_export.families import Family
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights


class Bert(Family):
    """Every row of the position table is usable."""

    model_types: ClassVar[tuple[str, ...]] = ("bert",)
    settings: ClassVar = {
        int: "hidden_size intermediate_size max_position_embeddings num_attention_heads num_hidden_layers pad_token_id "
        "type_vocab_size vocab_size",
        float: "layer_norm_eps",
        bool: "is_decoder",
        str: "hidden_act model_type position_embedding_type",
    }
    built: ClassVar = {
        "hidden_act": ("gelu",),
        "position_embedding_type": ("absolute", None),
        "is_decoder": (False, None),
    }

    def reads(self, config: Mapping[str, Any]) -> bool:
        """All but JinaBERT, which calls itself BERT."""
        return super().reads(config) and config.get("position_embedding_type") != "alibi"

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights."""
        positions = weights.table("embeddings.position_embeddings")
        return Encoder(
            embeddings=weights.table("embeddings.word_embeddings"),
            layers=tuple(_layer(config, weights, index) for index in range(config["num_hidden_layers"])),
            max_length=len(positions),
            positions=positions,
            types=weights.table("embeddings.token_type_embeddings"),
            norm=weights.norm("embeddings.LayerNorm", config["layer_norm_eps"]),
        )


def _layer(config: Settings, weights: Weights, index: int) -> Layer:
    name, epsilon, heads = f"encoder.layer.{index}", config["layer_norm_eps"], config["num_attention_heads"]
    query, key, value = (weights.linear(f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
    up, down = weights.linear(f"{name}.intermediate.dense"), weights.linear(f"{name}.output.dense")
    return Layer(
        attention=Attention(query, key, value, weights.linear(f"{name}.attention.output.dense"), heads, heads),
        attention_norm=weights.norm(f"{name}.attention.output.LayerNorm", epsilon),
        feed_forward=FeedForward(up, down, Activation.GELU),
        feed_forward_norm=weights.norm(f"{name}.output.LayerNorm", epsilon),
    )


FAMILY = Bert()
