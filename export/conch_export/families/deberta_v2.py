"""DeBERTa v2 and v3: BERT whose positions are relative and meet contents in the scores (He et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conch_export.errors import SourceError, UnsupportedError
from conch_export.families import Family
from conch_export.model.arrays import LazyArray
from conch_export.model.network import Activation, Attention, Encoder, FeedForward, Layer, RelativePositions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from conch_export.checkpoints.settings import Settings
    from conch_export.checkpoints.weights import Weights
    from conch_export.model.network import Linear, Norm

    Floats = NDArray[np.float32]


class DebertaV2(Family):
    """DeBERTa v2 and v3 in their published sizes, except for the two with a convolution."""

    model_types: ClassVar[tuple[str, ...]] = ("deberta-v2",)
    settings: ClassVar = {
        int: "attention_head_size conv_kernel_size embedding_size hidden_size intermediate_size "
        "max_position_embeddings max_relative_positions num_attention_heads num_hidden_layers pad_token_id "
        "position_buckets type_vocab_size vocab_size",
        float: "layer_norm_eps",
        bool: "position_biased_input relative_attention share_att_key",
        str: "hidden_act model_type norm_rel_ebd pooler_hidden_act",
        list: "pos_att_type",
    }
    built: ClassVar = {"hidden_act": ("gelu",), "norm_rel_ebd": ("layer_norm", "none", None)}

    def reads(self, config: Mapping[str, Any]) -> bool:
        """Whether it has both kinds of disentangled attention, no convolution and embeddings of the layers' width."""
        return (
            super().reads(config)
            and bool(config.get("relative_attention"))
            and set(config.get("pos_att_type") or ()) == {"c2p", "p2c"}
            and not config.get("conv_kernel_size")
            and config.get("embedding_size") in (None, config.get("hidden_size"))
        )

    def outlasts_positions(self, config: Settings) -> bool:
        """Relative positions reach any distance; only a table of absolute ones ends."""
        return not config["position_biased_input"]

    def encoder(self, config: Settings, weights: Weights) -> Encoder:
        """The encoder with its weights."""
        relative, rows = _relative_embeddings(config, weights), _rows(config)
        layers = (self._layer(config, weights, relative, rows, index) for index in range(config["num_hidden_layers"]))
        return Encoder(
            embeddings=weights.table("embeddings.word_embeddings"),
            layers=tuple(layers),
            max_length=self.position_count(config),
            positions=weights.table("embeddings.position_embeddings") if config["position_biased_input"] else None,
            types=weights.table("embeddings.token_type_embeddings") if config["type_vocab_size"] else None,
            norm=weights.norm("embeddings.LayerNorm", config["layer_norm_eps"]),
        )

    def projections(self, config: Settings, weights: Weights, name: str) -> tuple[list[Linear], list[Linear]]:
        """Query, key and value of an attention; and the key and query of relative positions."""
        contents = [weights.linear(f"{name}.{part}_proj") for part in ("query", "key", "value")]
        if config.get("share_att_key"):
            return contents, [contents[1], contents[0]]
        return contents, [weights.linear(f"{name}.pos_{part}_proj") for part in ("key", "query")]

    def _layer(
        self, config: Settings, weights: Weights, relative: Floats, rows: NDArray[np.int64], index: int
    ) -> Layer:
        name, epsilon, heads = f"encoder.layer.{index}", config["layer_norm_eps"], config["num_attention_heads"]
        (query, key, value), positions = self.projections(config, weights, f"{name}.attention.self")
        keys, queries = (_heads(linear, relative, heads) for linear in positions)
        # The authors' rows run from keys after the query to keys before it: those of `keys` are turned round, so that
        # rows of both go by how far the other token is after the one whose content it is.
        met = RelativePositions(keys[:, ::-1], queries, rows)
        # Three products are added up in a score: of two contents, and of each with a position.
        scale = (3 * keys.shape[2]) ** -0.5
        output = weights.linear(f"{name}.attention.output.dense")
        up, down = weights.linear(f"{name}.intermediate.dense"), weights.linear(f"{name}.output.dense")
        return Layer(
            attention=Attention(query, key, value, output, heads, heads, scale=scale, relative=met),
            attention_norm=weights.norm(f"{name}.attention.output.LayerNorm", epsilon),
            feed_forward=FeedForward(up, down, Activation.GELU),
            feed_forward_norm=weights.norm(f"{name}.output.LayerNorm", epsilon),
        )


def _span(config: Settings) -> int:
    """Relative positions to either side that have embeddings of their own."""
    buckets, farthest = _stated(config, "position_buckets"), _farthest(config)
    if buckets and not 1 <= buckets // 2 < farthest - 1:
        msg = f"position_buckets = {buckets} of {farthest} positions is not built (known: 2 to about twice as many)"
        raise UnsupportedError(msg)
    return buckets or farthest


def _farthest(config: Settings) -> int:
    return _stated(config, "max_relative_positions") or int(config["max_position_embeddings"])


def _stated(config: Settings, key: str) -> int:
    """The number of positions under this key; 0 for none, which may be -1."""
    return max(0, config.of(key, int, 0))


def _relative_embeddings(config: Settings, weights: Weights) -> Floats:
    """[2 * span, hidden]: embeddings of relative positions, from keys far after the query to keys far before it."""
    table, span = np.asarray(weights.table("encoder.rel_embeddings")), _span(config)
    if table.shape != (2 * span, config["hidden_size"]):
        msg = (
            f"the embeddings of relative positions have the shape {list(table.shape)} where {config.place} says "
            f"{[2 * span, config['hidden_size']]}: the checkpoint's files are not of one model, fetch it again"
        )
        raise SourceError(msg)
    if config.get("norm_rel_ebd") != "layer_norm":
        return table
    return _normed(weights.norm("encoder.LayerNorm", config["layer_norm_eps"]), table)


def _rows(config: Settings) -> NDArray[np.int64]:
    """For every distance the row in a table of 2 * span + 1 rows, such as `_heads` gives."""
    span, reach = _span(config), config["max_position_embeddings"]
    distances = np.arange(-reach, reach + 1)
    if _stated(config, "position_buckets"):
        distances = log_buckets(distances, span, _farthest(config))
    return np.clip(distances, -span, span) + span


def log_buckets(distances: NDArray[np.int64], count: int, farthest: int) -> NDArray[np.int64]:
    """Distances up to half of `count` as they are, others in logarithmic steps, the last of which `farthest` ends."""
    middle = count // 2
    # In single precision as the authors have it: a bucket's edge must not move by a rounding.
    lengths = np.maximum(np.abs(distances), middle).astype(np.float32) / np.float32(middle)
    steps = np.log(lengths) / np.log(np.float32((farthest - 1) / middle)) * np.float32(middle - 1)
    far = np.ceil(steps).astype(np.int64) + middle
    return np.where(np.abs(distances) <= middle, distances, np.sign(distances) * far)


def _heads(linear: Linear, relative: Floats, heads: int) -> LazyArray:
    """[heads, 2 * span + 1, head width]: relative positions -span .. span as keys or queries."""

    def read() -> Floats:
        projected = relative @ np.asarray(linear.weight)
        if linear.bias is not None:
            projected += linear.bias
        table = projected.reshape(len(relative), heads, -1).transpose(1, 0, 2)
        # The authors' table lacks the last position, which shares the row of the one before.
        return np.concatenate([table, table[:, -1:]], axis=1)

    return LazyArray((heads, len(relative) + 1, linear.weight.shape[1] // heads), read)


def _normed(norm: Norm, table: Floats) -> Floats:
    centred = table - table.mean(axis=1, keepdims=True)
    deviations = np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + norm.epsilon)
    return np.asarray(centred / deviations * norm.scale + norm.bias, np.float32)


FAMILY = DebertaV2()
