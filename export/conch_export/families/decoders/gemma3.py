"""Gemma 3 text and EmbeddingGemma: local and global attention, norms on both sides of each part (Gemma Team 2025)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from conch_export.errors import SourceError, UnsupportedError
from conch_export.families import Family
from conch_export.families.decoders.llama import frequencies
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer, Rotary, rotary_frequencies

if TYPE_CHECKING:
    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights
    from conch_export.model.network import Norm

_LOCAL, _GLOBAL = "sliding_attention", "full_attention"
_PERIOD = 6
"""Every sixth layer is global where config.json does not list them."""


class Gemma3(Family):
    """A decoder, or an encoder where `use_bidirectional_attention` says so."""

    model_types = ("gemma3_text",)
    settings: ClassVar = {
        int: "head_dim hidden_size intermediate_size max_position_embeddings num_attention_heads num_hidden_layers "
        "num_key_value_heads pad_token_id sliding_window sliding_window_pattern vocab_size",
        float: "attn_logit_softcapping final_logit_softcapping query_pre_attn_scalar rms_norm_eps "
        "rope_local_base_freq rope_theta",
        bool: "attention_bias use_bidirectional_attention",
        str: "hidden_activation model_type",
        list: "layer_types",
        dict: "rope_scaling",
    }
    built: ClassVar = {
        "hidden_activation": ("gelu_pytorch_tanh",),
        "attn_logit_softcapping": (None,),
        "final_logit_softcapping": (None,),
    }

    def outlasts_positions(self, config: Settings) -> bool:  # noqa: ARG002
        """Rotary positions are computed for rows of any length."""
        return True

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights."""
        length = self.position_count(config)
        local = rotary_frequencies(config["rope_local_base_freq"], config["head_dim"])
        rotaries = {_LOCAL: Rotary.of(local, length), _GLOBAL: Rotary.of(frequencies(config), length)}
        windows = {_LOCAL: _window(config), _GLOBAL: None}
        return Encoder(
            embeddings=weights.table("embed_tokens"),
            layers=tuple(
                _layer(config, weights, rotaries[kind], windows[kind], index)
                for index, kind in enumerate(_kinds(config))
            ),
            max_length=length,
            final_norm=_norm(config, weights, "norm"),
            embedding_scale=config["hidden_size"] ** 0.5,
        )


def _kinds(config: Settings) -> list[str]:
    """Which layers are local and which are global."""
    count, stated = config["num_hidden_layers"], config.texts("layer_types")
    period = config.of("sliding_window_pattern", int, _PERIOD)
    kinds = stated or [_LOCAL if number % period else _GLOBAL for number in range(1, count + 1)]
    if len(kinds) != count:
        msg = f"{config.place} lists {len(kinds)} layer_types for {count} layers: fetch the checkpoint again"
        raise SourceError(msg)
    if unknown := set(kinds) - {_LOCAL, _GLOBAL}:
        msg = f"{config.place} states layer_types with {sorted(unknown)}: only {_LOCAL} and {_GLOBAL} are built"
        raise UnsupportedError(msg)
    return kinds


def _window(config: Settings) -> int:
    """Tokens to either side that a local layer sees."""
    stated = config["sliding_window"]
    if not stated:
        raise config.wrong("sliding_window", "a whole number from 1")
    # A causal layer sees that many tokens, itself included; a bidirectional one has half of them on each side.
    return int(stated // 2 if config["use_bidirectional_attention"] else stated - 1)


def _layer(config: Settings, weights: Weights, rotary: Rotary, window: int | None, index: int) -> Layer:
    name = f"layers.{index}"
    gate, up, down = (weights.linear(f"{name}.mlp.{part}_proj") for part in ("gate", "up", "down"))
    before, after, before_network, after_network = (
        _norm(config, weights, f"{name}.{place}_layernorm")
        for place in ("input", "post_attention", "pre_feedforward", "post_feedforward")
    )
    return Layer(
        attention=_attention(config, weights, rotary, window, f"{name}.self_attn"),
        attention_norm=before,
        feed_forward=FeedForward(up, down, Activation.GELU_TANH, gate),
        feed_forward_norm=before_network,
        pre_norm=True,
        attention_post_norm=after,
        feed_forward_post_norm=after_network,
    )


def _attention(config: Settings, weights: Weights, rotary: Rotary, window: int | None, name: str) -> Attention:
    query, key, value, output = (weights.linear(f"{name}.{part}_proj") for part in "qkvo")
    query_norm, key_norm = (_norm(config, weights, f"{name}.{part}_norm") for part in "qk")
    return Attention(
        query,
        key,
        value,
        output,
        config["num_attention_heads"],
        config["num_key_value_heads"],
        query_norm=query_norm,
        key_norm=key_norm,
        rotary=rotary,
        window=window,
        causal=not config["use_bidirectional_attention"],
        scale=config["query_pre_attn_scalar"] ** -0.5,
    )


def _norm(config: Settings, weights: Weights, name: str) -> Norm:
    """A norm, whose scales are stored less one."""
    norm = weights.rms_norm(name, config["rms_norm_eps"])
    return replace(norm, scale=norm.scale + 1)


FAMILY = Gemma3()
