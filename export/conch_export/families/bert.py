"""BERT: absolute positions, segments, post-norm blocks, plain GELU feed-forward (Devlin et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conch_export.errors import UnsupportedError
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.checkpoints.weights import Weights

IN_TRANSFORMERS = True


def reads(config: dict[str, Any]) -> bool:
    """BERT, but not those that only call themselves so (see `jina_bert`)."""
    return bool(config["model_type"] == "bert" and config.get("position_embedding_type") != "alibi")


def read_encoder(checkpoint: Checkpoint) -> Encoder:
    """The encoder with its weights."""
    config, weights = checkpoint.config, checkpoint.weights
    refuse_variants(config)
    positions = weights.table("embeddings.position_embeddings")
    return Encoder(
        words=weights.table("embeddings.word_embeddings"),
        layers=tuple(_read_layer(config, weights, index) for index in range(config["num_hidden_layers"])),
        max_length=len(positions),
        positions=positions,
        types=weights.table("embeddings.token_type_embeddings"),
        norm=weights.norm("embeddings.LayerNorm", config["layer_norm_eps"]),
    )


def position_count(config: dict[str, Any]) -> int:
    """Every row of the position table is usable."""
    return int(config["max_position_embeddings"])


def has_segments(config: dict[str, Any]) -> bool:
    """Two segments, unless the checkpoint was made without."""
    return int(config.get("type_vocab_size", 1)) > 1


def refuse_variants(config: dict[str, Any]) -> None:
    """Refuse what this family can be configured to but is not built.

    Raises:
        UnsupportedError: another activation, relative positions or a decoder.
    """
    known: dict[str, tuple[Any, ...]] = {
        "hidden_act": ("gelu",),
        "position_embedding_type": ("absolute", None),
        "is_decoder": (False, None),
    }
    for key, values in known.items():
        if config.get(key) not in values:
            message = f"{key} = {config.get(key)!r} is not built for {config['model_type']} (known: {values[0]!r})"
            raise UnsupportedError(message)


def read_attention(config: dict[str, Any], weights: Weights, name: str) -> Attention:
    """Attention by the tensor names that BERT and its relatives share."""
    heads = int(config["num_attention_heads"])
    return Attention(
        query=weights.linear(f"{name}.self.query"),
        key=weights.linear(f"{name}.self.key"),
        value=weights.linear(f"{name}.self.value"),
        output=weights.linear(f"{name}.output.dense"),
        heads=heads,
        key_heads=heads,
    )


def _read_layer(config: dict[str, Any], weights: Weights, index: int) -> Layer:
    name, epsilon = f"encoder.layer.{index}", config["layer_norm_eps"]
    up, down = weights.linear(f"{name}.intermediate.dense"), weights.linear(f"{name}.output.dense")
    return Layer(
        attention=read_attention(config, weights, f"{name}.attention"),
        attention_norm=weights.norm(f"{name}.attention.output.LayerNorm", epsilon),
        feed_forward=FeedForward(up, down, Activation.GELU),
        feed_forward_norm=weights.norm(f"{name}.output.LayerNorm", epsilon),
    )
