"""JinaBERT, jina-embeddings-v2: BERT with ALiBi instead of positions and a gated feed-forward (Günther et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conch_export.errors import UnsupportedError
from conch_export.families import bert
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer
from conch_export.onnx.distances import Alibi

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.checkpoints.weights import Weights

_ACTIVATIONS = {"geglu": Activation.GELU, "reglu": Activation.RELU}

IN_TRANSFORMERS = False


def reads(config: dict[str, Any]) -> bool:
    """What calls itself BERT and has ALiBi."""
    return bool(config["model_type"] == "bert" and config.get("position_embedding_type") == "alibi")


def read_encoder(checkpoint: Checkpoint) -> Encoder:
    """The encoder with its weights."""
    config, weights = checkpoint.config, checkpoint.weights
    kind = config["feed_forward_type"]
    if kind not in _ACTIVATIONS:
        message = f"feed_forward_type = {kind!r} is not built for JinaBERT (known: {', '.join(_ACTIVATIONS)})"
        raise UnsupportedError(message)
    bias = Alibi.of(config["num_attention_heads"])
    layers = range(config["num_hidden_layers"])
    return Encoder(
        words=weights.table("embeddings.word_embeddings"),
        layers=tuple(_read_layer(config, weights, bias, _ACTIVATIONS[kind], index) for index in layers),
        max_length=position_count(config),
        types=weights.table("embeddings.token_type_embeddings"),
        norm=weights.norm("embeddings.LayerNorm", config["layer_norm_eps"]),
    )


def position_count(config: dict[str, Any]) -> int:
    """As many as the authors say; ALiBi has no table that ends."""
    return int(config["max_position_embeddings"])


def has_segments(config: dict[str, Any]) -> bool:
    """As BERT."""
    return bert.has_segments(config)


def _read_layer(config: dict[str, Any], weights: Weights, bias: Alibi, activation: Activation, index: int) -> Layer:
    name, epsilon, heads = f"encoder.layer.{index}", config["layer_norm_eps"], int(config["num_attention_heads"])
    query, key, value = (weights.linear(f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
    output = weights.linear(f"{name}.attention.output.dense")
    gate, up = weights.split_linear(f"{name}.mlp.gated_layers", 2)
    return Layer(
        attention=Attention(query, key, value, output, heads, heads, bias=bias),
        attention_norm=weights.norm(f"{name}.attention.output.LayerNorm", epsilon),
        feed_forward=FeedForward(up, weights.linear(f"{name}.mlp.wo"), activation, gate),
        feed_forward_norm=weights.norm(f"{name}.mlp.layernorm", epsilon),
    )
