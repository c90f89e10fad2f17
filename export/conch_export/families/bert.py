"""BERT: absolute positions, segments, post-norm blocks, plain GELU feed-forward (Devlin et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conch_export.errors import UnsupportedError
from conch_export.graphs.encoder import Encoder, Layer
from conch_export.graphs.heads import Classifier

if TYPE_CHECKING:
    from conch_export.checkpoint import Checkpoint, Weights

MODEL_TYPES: tuple[str, ...] = ("bert",)


def read_encoder(checkpoint: Checkpoint) -> Encoder:
    """The encoder with its weights."""
    config, weights = checkpoint.config, checkpoint.weights
    refuse_variants(config)
    epsilon = float(config["layer_norm_eps"])
    return Encoder(
        words=weights.array("embeddings.word_embeddings.weight"),
        positions=weights.array("embeddings.position_embeddings.weight"),
        types=weights.array("embeddings.token_type_embeddings.weight"),
        norm=weights.norm("embeddings.LayerNorm", epsilon),
        layers=tuple(read_layer(weights, index, epsilon) for index in range(config["num_hidden_layers"])),
        heads=config["num_attention_heads"],
    )


def read_classifier(checkpoint: Checkpoint) -> Classifier:
    """The pooler and the output layer of `BertForSequenceClassification`."""
    weights = checkpoint.weights
    return Classifier(dense=weights.linear("pooler.dense"), output=weights.linear("classifier"))


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


def read_layer(weights: Weights, index: int, epsilon: float) -> Layer:
    """One block, by the tensor names that BERT and its relatives share."""
    name = f"encoder.layer.{index}"
    return Layer(
        query=weights.linear(f"{name}.attention.self.query"),
        key=weights.linear(f"{name}.attention.self.key"),
        value=weights.linear(f"{name}.attention.self.value"),
        attention_output=weights.linear(f"{name}.attention.output.dense"),
        attention_norm=weights.norm(f"{name}.attention.output.LayerNorm", epsilon),
        up=weights.linear(f"{name}.intermediate.dense"),
        down=weights.linear(f"{name}.output.dense"),
        output_norm=weights.norm(f"{name}.output.LayerNorm", epsilon),
    )
