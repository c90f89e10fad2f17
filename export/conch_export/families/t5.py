"""T5, mT5 and umT5: the encoder of an encoder-decoder, with relative biases for positions (Raffel et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from conch_export.errors import UnsupportedError
from conch_export.families import Family
from conch_export.model.distances import RelativeBias
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer

if TYPE_CHECKING:
    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights

_LONGEST = 8192
"""Rows are refused beyond it, so that none takes all memory; nothing else ends them, as biases reach any distance."""
_ACTIVATIONS = {
    "relu": Activation.RELU,
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "silu": Activation.SILU,
}


class T5(Family):
    """No absolute positions, no biases of linear layers, norms before each part, scores that are not scaled."""

    model_types = ("t5", "mt5", "umt5")
    ends_rows = False
    settings: ClassVar = {
        int: "d_ff d_kv d_model num_heads num_layers pad_token_id relative_attention_max_distance "
        "relative_attention_num_buckets vocab_size",
        float: "layer_norm_epsilon",
        bool: "is_gated_act",
        str: "dense_act_fn feed_forward_proj model_type",
    }
    unread: ClassVar = "n_positions scalable_attention"

    def position_count(self, config: Settings) -> int:  # noqa: ARG002
        """A limit of ours: relative biases reach any distance."""
        return _LONGEST

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights; a decoder in the same files is left."""
        weights.refuse_apart("encoder.embed_tokens.weight", "shared.weight", "a T5 has one embedding table")
        # Saved under one of the names that share it, or under all of them.
        table = "shared" if "shared.weight" in weights else "encoder.embed_tokens"
        return Encoder(
            embeddings=weights.table(table),
            layers=tuple(_layer(config, weights, index) for index in range(config["num_layers"])),
            max_length=self.position_count(config),
            final_norm=weights.rms_norm("encoder.final_layer_norm", config["layer_norm_epsilon"]),
        )


def _layer(config: Settings, weights: Weights, index: int) -> Layer:
    name, epsilon, heads = f"encoder.block.{index}.layer", config["layer_norm_epsilon"], config["num_heads"]
    query, key, value, output = (weights.linear(f"{name}.0.SelfAttention.{part}") for part in "qkvo")
    return Layer(
        attention=Attention(query, key, value, output, heads, heads, bias=_bias(config, weights, index), scale=1.0),
        attention_norm=weights.rms_norm(f"{name}.0.layer_norm", epsilon),
        feed_forward=_feed_forward(config, weights, f"{name}.1.DenseReluDense"),
        feed_forward_norm=weights.rms_norm(f"{name}.1.layer_norm", epsilon),
        pre_norm=True,
    )


def _bias(config: Settings, weights: Weights, index: int) -> RelativeBias:
    """Return the biases of a layer: those of the first one, except in umT5, where each layer has its own."""
    owner = index if config["model_type"] == "umt5" else 0
    table = np.asarray(weights.table(f"encoder.block.{owner}.layer.0.SelfAttention.relative_attention_bias"))
    farthest, count = config["relative_attention_max_distance"], config["relative_attention_num_buckets"]
    if count < 4 or farthest <= count // 4:
        expected = "4 or more, and less than 4 times relative_attention_max_distance,"
        raise config.wrong("relative_attention_num_buckets", expected)
    return RelativeBias.of(table, farthest)


def _feed_forward(config: Settings, weights: Weights, name: str) -> FeedForward:
    stated = config["feed_forward_proj"]
    kind, _, activation = stated.rpartition("-")
    if stated == "gated-gelu":
        activation = "gelu_new"  # so transformers reads it
    # Newer checkpoints state the two parts too, which hold then.
    activation, gated = config["dense_act_fn"] or activation, config["is_gated_act"]
    if activation not in _ACTIVATIONS:
        known = f"{config['model_type']} (known: {', '.join(_ACTIVATIONS)}, and those gated)"
        raise UnsupportedError(f"dense_act_fn = {activation!r} (feed_forward_proj {stated!r}) is not built for {known}")
    down = weights.linear(f"{name}.wo")
    if kind == "gated" if gated is None else gated:
        gate, up = weights.linear(f"{name}.wi_0"), weights.linear(f"{name}.wi_1")
        return FeedForward(up, down, _ACTIVATIONS[activation], gate)
    return FeedForward(weights.linear(f"{name}.wi"), down, _ACTIVATIONS[activation])


FAMILY = T5()
