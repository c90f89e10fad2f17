"""Llama: a causal decoder with shared key heads and rotary positions (Touvron et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from conch_export.errors import SourceError, UnsupportedError
from conch_export.families import Family
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer, Rotary, rotary_frequencies

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights
    from conch_export.model.network import Linear

_SCALING = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


class Llama(Family):
    """A decoder, up to its last norm. Decoders that differ from it in a few settings are its subclasses.

    Attributes:
        causal: whether later tokens are hidden where config.json does not say.
    """

    model_types = ("llama",)
    settings: ClassVar = {
        int: "head_dim hidden_size intermediate_size max_position_embeddings num_attention_heads num_hidden_layers "
        "num_key_value_heads pad_token_id vocab_size",
        float: "rms_norm_eps rope_theta",
        bool: "attention_bias is_causal mlp_bias",
        str: "hidden_act model_type",
        dict: "rope_scaling",
    }
    built: ClassVar = {"hidden_act": ("silu",)}
    causal: ClassVar[bool] = True

    def outlasts_positions(self, config: Settings) -> bool:  # noqa: ARG002
        """Rotary positions are computed for rows of any length."""
        return self.in_transformers

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The decoder with its weights."""
        length = self.position_count(config)
        rotary = Rotary.of(frequencies(config), length)
        return Encoder(
            embeddings=weights.table("embed_tokens"),
            layers=tuple(self._layer(config, weights, rotary, index) for index in range(config["num_hidden_layers"])),
            max_length=length,
            final_norm=weights.rms_norm("norm", config["rms_norm_eps"]),
        )

    def is_causal(self, config: Settings) -> bool:
        """Whether later tokens are hidden: as config.json says, which transformers honours since 5.2, else `causal`."""
        return config.of("is_causal", bool, default=self.causal)

    def attention(self, config: Settings, weights: Weights, rotary: Rotary, name: str) -> Attention:
        """The attention whose tensors have this name."""
        query, key, value, output = (weights.linear(f"{name}.{part}_proj") for part in "qkvo")
        heads = config["num_attention_heads"]
        key_heads = config["num_key_value_heads"] or heads
        causal = self.is_causal(config)
        _refuse_other_biases(config, "attention_bias", query, key, value, output)
        return Attention(query, key, value, output, heads, key_heads, rotary=rotary, causal=causal)

    def _layer(self, config: Settings, weights: Weights, rotary: Rotary, index: int) -> Layer:
        name, epsilon = f"layers.{index}", config["rms_norm_eps"]
        gate, up, down = (weights.linear(f"{name}.mlp.{part}_proj") for part in ("gate", "up", "down"))
        _refuse_other_biases(config, "mlp_bias", gate, up, down)
        return Layer(
            attention=self.attention(config, weights, rotary, f"{name}.self_attn"),
            attention_norm=weights.rms_norm(f"{name}.input_layernorm", epsilon),
            feed_forward=FeedForward(up, down, Activation.SILU, gate),
            feed_forward_norm=weights.rms_norm(f"{name}.post_attention_layernorm", epsilon),
            pre_norm=True,
        )


def _refuse_other_biases(config: Settings, key: str, *linears: Linear) -> None:
    """Refuse linear layers that have biases where config.json says that they have none, or the other way round."""
    stated = config.get(key)
    if stated is not None and any((linear.bias is not None) != stated for linear in linears):
        there = "lack" if stated else "have"
        raise SourceError(f"{config.place} states {key} = {stated}, but those layers {there} biases: fetch it again")


def frequencies(config: Settings) -> NDArray[np.float64]:
    """[head width / 2]: the usual ones, all `factor` times slower (linear), or only the slow ones (Llama 3)."""
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    usual = rotary_frequencies(config["rope_theta"], width)
    scaling = config.inner("rope_scaling")
    kind, numbers = scaling.get("rope_type", scaling.get("type", "default")), set(scaling) - {"rope_type", "type"}
    if kind == "default" and not numbers:
        return usual
    if kind == "linear" and numbers == {"factor"} and scaling.of("factor", float, 0.0) > 0:
        return usual / scaling.of("factor", float, 0.0)
    if kind != "llama3" or not numbers <= set(_SCALING):
        known = f"'linear' with a factor above 0, 'llama3' with {', '.join(_SCALING)}"
        msg = f"rope_scaling = {dict(scaling)!r} is not built for {config['model_type']} (known: rope_type {known})"
        raise UnsupportedError(msg)
    factor, low, high, length = (scaling.of(key, float, 0.0) for key in _SCALING)
    if min(factor, low, length) <= 0 or high <= low:
        raise config.wrong("rope_scaling", f"an object with {', '.join(_SCALING)} above 0, the high one above the low")
    # Turns within the original length: more than `high` keep their speed, fewer than `low` are slowed wholly.
    kept = np.clip((length * usual / (2 * np.pi) - low) / (high - low), 0, 1)
    return np.asarray(usual * (kept + (1 - kept) / factor))


FAMILY = Llama()
