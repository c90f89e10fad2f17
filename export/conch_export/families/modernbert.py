"""ModernBERT: rotary positions, attention that is local in most layers, norms before each part (Warner et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conch_export.errors import UnsupportedError
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer, Rotary, rotary_frequencies

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.checkpoints.weights import Weights

_ACTIVATIONS = {"gelu": Activation.GELU, "gelu_pytorch_tanh": Activation.GELU_TANH, "silu": Activation.SILU}

IN_TRANSFORMERS = True


def reads(config: dict[str, Any]) -> bool:
    """All of them."""
    return bool(config["model_type"] == "modernbert")


def read_encoder(checkpoint: Checkpoint) -> Encoder:
    """The encoder with its weights."""
    config, weights = checkpoint.config, checkpoint.weights
    if config["hidden_activation"] not in _ACTIVATIONS:
        message = f"hidden_activation = {config['hidden_activation']!r} is not built for modernbert"
        raise UnsupportedError(message)
    width = config["hidden_size"] // config["num_attention_heads"]
    everywhere, nearby = (
        Rotary.of(rotary_frequencies(config[theta], width), position_count(config))
        for theta in ("global_rope_theta", "local_rope_theta")
    )
    layers = []
    for index in range(config["num_hidden_layers"]):
        is_global = index % config["global_attn_every_n_layers"] == 0
        rotary, window = (everywhere, None) if is_global else (nearby, config["local_attention"] // 2)
        layers.append(_read_layer(config, weights, rotary, window, index))
    return Encoder(
        words=weights.table("embeddings.tok_embeddings"),
        layers=tuple(layers),
        max_length=position_count(config),
        norm=weights.norm("embeddings.norm", config["norm_eps"]),
        final_norm=weights.norm("final_norm", config["norm_eps"]),
    )


def position_count(config: dict[str, Any]) -> int:
    """As many as the authors say; rotary positions have no table that ends."""
    return int(config["max_position_embeddings"])


def has_segments(config: dict[str, Any]) -> bool:  # noqa: ARG001 - the families share this signature
    """Never."""
    return False


def _read_layer(config: dict[str, Any], weights: Weights, rotary: Rotary, window: int | None, index: int) -> Layer:
    name, epsilon, heads = f"layers.{index}", config["norm_eps"], int(config["num_attention_heads"])
    query, key, value = weights.split_linear(f"{name}.attn.Wqkv", 3)
    gate, up = weights.split_linear(f"{name}.mlp.Wi", 2)
    attention = Attention(
        query, key, value, weights.linear(f"{name}.attn.Wo"), heads, heads, rotary=rotary, window=window
    )
    return Layer(
        attention=attention,
        # The first layer follows the norm of the embeddings and has none of its own.
        attention_norm=weights.norm(f"{name}.attn_norm", epsilon) if index else None,
        feed_forward=FeedForward(up, weights.linear(f"{name}.mlp.Wo"), _ACTIVATIONS[config["hidden_activation"]], gate),
        feed_forward_norm=weights.norm(f"{name}.mlp_norm", epsilon),
        pre_norm=True,
    )
