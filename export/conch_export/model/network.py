"""A transformer encoder as data: no framework and no ONNX. Families read checkpoints into it."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from conch_export.model.arrays import LazyArray, columns_joined

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from conch_export.model.arrays import Array
    from conch_export.model.distances import DistanceBias

Part = TypeVar("Part")


class Activation(str, Enum):
    """Activation of the feed-forward block."""

    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    SILU = "silu"
    RELU = "relu"


@dataclass(frozen=True)
class Linear:
    """y = x @ weight + bias; weight is [inputs, outputs], bias [outputs] or None."""

    weight: Array
    bias: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Norm:
    """Normalisation over the last axis: layer norm, or root mean square (Zhang and Sennrich 2019) if `rms`."""

    scale: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    epsilon: float
    rms: bool = False


@dataclass(frozen=True)
class Rotary:
    """Rotary positions (Su et al. 2021), halves turned against each other; tables [max_length, head width / 2]."""

    cos: NDArray[np.float32]
    sin: NDArray[np.float32]

    @classmethod
    def of(cls, frequencies: NDArray[np.float64], max_length: int) -> Rotary:
        """The tables of [head width / 2] frequencies, in radians a token."""
        # Products in single precision, as every implementation has them: at position 8,000 the difference shows.
        angles = np.outer(np.arange(max_length, dtype=np.float32), frequencies.astype(np.float32))
        return cls(np.cos(angles), np.sin(angles))


def rotary_frequencies(theta: float, width: int) -> NDArray[np.float64]:
    """[width / 2], the usual ones: theta ** (-2 i / width)."""
    return np.asarray(theta ** (-np.arange(0, width, 2) / width), np.float64)


@dataclass(frozen=True)
class RelativePositions:
    """Disentangled attention (He et al. 2021): contents meet positions that depend on how far apart two tokens are.

    The score of query i and key j, before it is scaled, gains query_i . keys[row(j - i)] (content to position) and
    key_j . queries[row(i - j)] (position to content).

    Attributes:
        keys: [heads, rows, head width], what queries meet.
        queries: [heads, rows, head width], what keys meet.
        rows: INT64 [2 * reach + 1], for every distance the row in both; entry reach + d for the other token being d
            tokens after the one whose content it is. No two tokens of a row are farther apart than `reach`.
        rounded: whether contents meet both in 8 bits.
    """

    keys: Array
    queries: Array
    rows: NDArray[np.int64]
    rounded: bool = False

    @property
    def reach(self) -> int:
        """The largest distance."""
        return len(self.rows) // 2


@dataclass(frozen=True)
class Attention:
    """Attention within a row.

    Attributes:
        query: to `heads` heads.
        key: to `key_heads` heads.
        value: to as many.
        output: back to the encoder's width.
        heads: parts of the width that attend independently.
        key_heads: heads of keys and values, each shared by `heads / key_heads` query heads.
        query_norm: of every query head by itself, or None.
        key_norm: of every key head by itself, or None.
        rotary: positions, where they enter here.
        bias: added to the scores by distance, or None.
        window: tokens to either side that are seen; None for all.
        causal: whether later tokens are hidden.
        scale: what the products of queries and keys are multiplied by; None for 1 / sqrt(head width).
        relative: positions that queries and keys meet by their content, or None. Key heads are not shared then.
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    heads: int
    key_heads: int
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    rotary: Rotary | None = None
    bias: DistanceBias | None = None
    window: int | None = None
    causal: bool = False
    scale: float | None = None
    relative: RelativePositions | None = None

    @property
    def head_width(self) -> int:
        """Numbers in one head."""
        return int(self.query.weight.shape[1]) // self.heads

    @property
    def score_scale(self) -> float:
        """Factor on the products of queries and keys."""
        return self.head_width**-0.5 if self.scale is None else self.scale

    @property
    def knows_distances(self) -> bool:
        """Whether something is added to scores, or hidden, by how far apart two tokens are (see `score_matrix`)."""
        return self.bias is not None or self.window is not None or self.causal

    @property
    def is_plain(self) -> bool:
        """Whether every token sees all of its row by its content alone, with a key head for each query head."""
        return not self.knows_distances and self.relative is None and self.heads == self.key_heads

    def score_matrix(self, length: int) -> NDArray[np.float32]:
        """[heads or 1, length, length]: added to the scores of a row of so many tokens or, its corner, of fewer."""
        places = np.arange(length)
        distances = places[None, :] - places[:, None]
        hidden = np.zeros(distances.shape, np.bool_)
        if self.causal:
            hidden |= distances > 0
        if self.window is not None:
            hidden |= np.abs(distances) > self.window
        bias = np.zeros((1, length, length), np.float32) if self.bias is None else self.bias.matrix(distances)
        return np.where(hidden, np.float32(-np.inf), bias)


@dataclass(frozen=True)
class FeedForward:
    """down(activation(up(x))), or down(activation(gate(x)) * up(x)) where there is a gate (Shazeer 2020)."""

    up: Linear
    down: Linear
    activation: Activation
    gate: Linear | None = None

    @property
    def networks(self) -> tuple[FeedForward, ...]:
        """Itself: a mixture has several."""
        return (self,)


@dataclass(frozen=True)
class Experts:
    """A mixture of feed-forward networks, of which every token passes a few (Shazeer et al. 2017).

    The result is the sum of each chosen network's output times its weight, and the bias. The weights are the softmax
    of the router's outputs over all networks, and are not made to add up to 1 over the chosen ones.

    Attributes:
        router: from a token to a number for each network.
        networks: all of them.
        chosen: how many a token passes, those with the largest weights.
        bias: added once, or None.
    """

    router: Linear
    networks: tuple[FeedForward, ...]
    chosen: int
    bias: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Layer:
    """One block: attention, then feed-forward, each added to what came in.

    Attributes:
        attention: within rows.
        attention_norm: after the addition, or before the attention if `pre_norm`; None for none.
        feed_forward: of every token by itself.
        feed_forward_norm: after the addition, or before the network if `pre_norm`.
        pre_norm: where the norms are.
        attention_post_norm: of what the attention gives, before it is added; None for none.
        feed_forward_post_norm: of what the network gives, likewise.
    """

    attention: Attention
    attention_norm: Norm | None
    feed_forward: FeedForward | Experts
    feed_forward_norm: Norm
    pre_norm: bool = False
    attention_post_norm: Norm | None = None
    feed_forward_post_norm: Norm | None = None


@dataclass(frozen=True)
class Encoder:
    """A transformer encoder with its weights.

    Attributes:
        embeddings: [vocabulary, embedded], by token id.
        layers: from input to output.
        max_length: most tokens that a row may have, special tokens included.
        positions: [max_length, embedded], entry i for the i-th real token of a row, or None.
        types: [segments, embedded], or None; row 0 is for text without segments.
        norm: applied to the sum of the embeddings, or None.
        projection: of the normed sum to the width of the layers, or None where that is the width of the embeddings.
        final_norm: applied to what the last layer gives, or None.
        embedding_scale: what a token's embedding is multiplied by.
    """

    embeddings: Array
    layers: tuple[Layer, ...]
    max_length: int
    positions: Array | None = None
    types: Array | None = None
    norm: Norm | None = None
    projection: Linear | None = None
    final_norm: Norm | None = None
    embedding_scale: float = 1.0

    @property
    def hidden(self) -> int:
        """Width of a token's vector."""
        return int((self.embeddings if self.projection is None else self.projection.weight).shape[1])


def side_by_side(*parts: Linear) -> Linear:
    """One layer that gives the outputs of several, joined."""
    weight = columns_joined([part.weight for part in parts])
    if all(part.bias is None for part in parts):
        return Linear(weight)
    return Linear(weight, np.concatenate([_bias(part) for part in parts]))


def _bias(linear: Linear) -> NDArray[np.float32]:
    return linear.bias if linear.bias is not None else np.zeros(linear.weight.shape[1], linear.weight.dtype)


def scaled(linear: Linear, factor: float) -> Linear:
    """The layer with outputs `factor` times as large."""
    # The factor has the type of the weights, which the product keeps then.
    kind = linear.weight.dtype.type(factor)
    return Linear(linear.weight * kind, None if linear.bias is None else linear.bias * kind)


def with_arrays(part: Part, change: Callable[[Array], Array]) -> Part:
    """An encoder, a head or a part of one with all of its arrays changed."""
    return cast("Part", _changed(part, change))


def _changed(part: object, change: Callable[[Array], Array]) -> object:
    if isinstance(part, LazyArray | np.ndarray):
        return change(part)
    if isinstance(part, tuple):
        return tuple(_changed(each, change) for each in part)
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{field.name: _changed(getattr(part, field.name), change) for field in fields(part)})
    return part
