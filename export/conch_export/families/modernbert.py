"""ModernBERT: rotary positions, attention that is local in most layers, norms before each part (Warner et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from conch_export.families import Family
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer, Rotary, rotary_frequencies

if TYPE_CHECKING:
    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights

_ACTIVATIONS = {"gelu": Activation.GELU, "gelu_pytorch_tanh": Activation.GELU_TANH, "silu": Activation.SILU}


class ModernBert(Family):
    """Most layers attend to a window; every few layers one attends to the whole text."""

    model_types = ("modernbert",)
    settings: ClassVar = {
        int: "global_attn_every_n_layers hidden_size intermediate_size local_attention max_position_embeddings "
        "num_attention_heads num_hidden_layers pad_token_id vocab_size",
        float: "global_rope_theta local_rope_theta norm_eps",
        bool: "attention_bias mlp_bias norm_bias",
        str: "classifier_activation classifier_pooling hidden_activation model_type",
    }
    built: ClassVar = {"hidden_activation": tuple(_ACTIVATIONS)}
    unread: ClassVar = "layer_norm_eps position_embedding_type"

    def outlasts_positions(self, config: Settings) -> bool:  # noqa: ARG002
        """Rotary positions are computed for rows of any length."""
        return True

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights."""
        width, length = config["hidden_size"] // config["num_attention_heads"], self.position_count(config)
        bases = config["global_rope_theta"], config["local_rope_theta"] or config["global_rope_theta"]
        everywhere, nearby = (Rotary.of(rotary_frequencies(base, width), length) for base in bases)
        layers = []
        for index in range(config["num_hidden_layers"]):
            is_global = index % config["global_attn_every_n_layers"] == 0
            # `local_attention` counts the tokens on both sides, `Attention.window` those on one.
            rotary, window = (everywhere, None) if is_global else (nearby, config["local_attention"] // 2)
            layers.append(_layer(config, weights, rotary, window, index))
        return Encoder(
            embeddings=weights.table("embeddings.tok_embeddings"),
            layers=tuple(layers),
            max_length=length,
            norm=weights.norm("embeddings.norm", config["norm_eps"]),
            final_norm=weights.norm("final_norm", config["norm_eps"]),
        )


def _layer(config: Settings, weights: Weights, rotary: Rotary, window: int | None, index: int) -> Layer:
    name, epsilon, heads = f"layers.{index}", config["norm_eps"], config["num_attention_heads"]
    query, key, value = weights.split_linear(f"{name}.attn.Wqkv", 3)
    # The first half is the one that is activated, which is called the gate here; the authors call the other half so.
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


FAMILY = ModernBert()
