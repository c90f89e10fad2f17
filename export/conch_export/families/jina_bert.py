"""JinaBERT, jina-embeddings-v2: BERT with ALiBi instead of positions and a gated feed-forward (Günther et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conch_export.families.bert import Bert
from conch_export.model.distances import Alibi
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights

_ACTIVATIONS = {"geglu": Activation.GELU, "reglu": Activation.RELU}


class JinaBert(Bert):
    """A checkpoint whose model_type is BERT, with ALiBi in place of positions."""

    in_transformers = False
    settings: ClassVar = {
        **Bert.settings,
        str: f"{Bert.settings[str]} emb_pooler feed_forward_type",
    }
    built: ClassVar = {"feed_forward_type": tuple(_ACTIVATIONS), "is_decoder": (False, None)}

    def reads(self, config: Mapping[str, Any]) -> bool:
        """A `bert` with ALiBi."""
        return config["model_type"] == "bert" and config.get("position_embedding_type") == "alibi"

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights."""
        bias = Alibi.of(config["num_attention_heads"])
        return Encoder(
            embeddings=weights.table("embeddings.word_embeddings"),
            layers=tuple(_layer(config, weights, bias, index) for index in range(config["num_hidden_layers"])),
            max_length=self.position_count(config),
            types=weights.table("embeddings.token_type_embeddings"),
            norm=weights.norm("embeddings.LayerNorm", config["layer_norm_eps"]),
        )


def _layer(config: Settings, weights: Weights, bias: Alibi, index: int) -> Layer:
    name, epsilon, heads = f"encoder.layer.{index}", config["layer_norm_eps"], config["num_attention_heads"]
    query, key, value = (weights.linear(f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
    output, activation = weights.linear(f"{name}.attention.output.dense"), _ACTIVATIONS[config["feed_forward_type"]]
    gate, up = weights.split_linear(f"{name}.mlp.gated_layers", 2)
    return Layer(
        attention=Attention(query, key, value, output, heads, heads, bias=bias),
        attention_norm=weights.norm(f"{name}.attention.output.LayerNorm", epsilon),
        feed_forward=FeedForward(up, weights.linear(f"{name}.mlp.wo"), activation, gate),
        feed_forward_norm=weights.norm(f"{name}.mlp.layernorm", epsilon),
    )


FAMILY = JinaBert()
