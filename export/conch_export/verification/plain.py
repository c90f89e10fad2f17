"""Encoders and heads computed in PyTorch, one text at a time and with nothing clever.

What exported graphs are compared with where transformers has no implementation. It shares the reading of the checkpoint
with the graphs, so it proves the graphs and their rounding, not the reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from conch_export.model.description import Pooling
from conch_export.model.heads import LogOdds, Pooled, Sum, Unit
from conch_export.model.network import Activation, Experts, Norm, with_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from conch_export.model.arrays import Array
    from conch_export.model.heads import HeadLayer, Lexical, Vocabulary
    from conch_export.model.network import (
        Attention,
        Encoder,
        FeedForward,
        Layer,
        Linear,
        Part,
        RelativePositions,
        Rotary,
    )

    Encode = Callable[[list[int], list[int], int], torch.Tensor]
    """From ids, types and the number of masked tokens at the end to FP32 [tokens, hidden]."""

NAME = "conch's plain PyTorch"

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    Activation.GELU.value: functional.gelu,
    Activation.GELU_TANH.value: lambda x: functional.gelu(x, approximate="tanh"),
    Activation.SILU.value: functional.silu,
    Activation.RELU.value: functional.relu,
}
"""Of feed-forward blocks and of heads."""


def in_memory(part: Part) -> Part:
    """An encoder, a head or a part of one whose numbers have been read, all of them."""
    return with_arrays(part, np.asarray)


class PlainEncoder:
    """Token ids of one text to the vectors of its tokens. Holds the encoder's weights."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = in_memory(encoder)

    @torch.inference_mode()
    def __call__(self, ids: Sequence[int], types: Sequence[int], masked: int = 0) -> torch.Tensor:
        """FP32 [tokens, hidden]; the last `masked` tokens are not attended to."""
        encoder = self._encoder
        x = _tensor(encoder.embeddings)[torch.tensor(ids)] * encoder.embedding_scale
        if encoder.positions is not None:
            x = x + _tensor(encoder.positions[: len(ids)])
        if encoder.types is not None:
            x = x + _tensor(encoder.types)[torch.tensor(types)]
        x = _normed(encoder.norm, x)
        if encoder.projection is not None:
            x = _linear(encoder.projection, x)
        for layer in encoder.layers:
            x = _layer(layer, x, len(ids) - masked)
        return _normed(encoder.final_norm, x)


def through(layers: Sequence[HeadLayer], x: torch.Tensor) -> torch.Tensor:
    """FP32 [n, width] through layers."""
    for layer in layers:
        if isinstance(layer, Unit):
            x = functional.normalize(x, dim=-1)
        elif isinstance(layer, Norm):
            x = _normed(layer, x)
        elif isinstance(layer, LogOdds):
            x = log_odds(x, layer.label)
        elif isinstance(layer, Sum):
            x = torch.stack([through(branch, x) for branch in layer.branches]).sum(0)
        else:
            activated = _ACTIVATIONS[layer.activation](_linear(layer.linear, x))
            x = activated if layer.residual is None else activated + _linear(layer.residual, x)
    return x


def log_odds(logits: torch.Tensor, label: int) -> torch.Tensor:
    """FP32 [n, labels] to [n, 1]: of the probability that the softmax gives a label."""
    return torch.logit(torch.softmax(logits.double(), -1)[:, [label]]).float()


def pool(pooling: Pooling, tokens: torch.Tensor) -> torch.Tensor:
    """FP32 [n, hidden] to [hidden]."""
    places = torch.arange(1, len(tokens) + 1, dtype=torch.float32)[:, None]
    poolings: dict[Pooling, Callable[[], torch.Tensor]] = {
        Pooling.MEAN: lambda: tokens.mean(0),
        Pooling.CLS: lambda: tokens[0],
        Pooling.MAX: lambda: tokens.amax(0),
        Pooling.LAST: lambda: tokens[-1],
        Pooling.WEIGHTED_MEAN: lambda: (tokens * places).sum(0) / places.sum(),
        Pooling.MEAN_SQRT_LENGTH: lambda: tokens.sum(0) / len(tokens) ** 0.5,
    }
    return poolings[pooling]()


def vocabulary(head: Vocabulary, tokens: torch.Tensor) -> torch.Tensor:
    """FP32 [n, hidden] to the weights over the vocabulary."""
    weights = torch.relu(_linear(head.decoder, through(head.layers, tokens)))
    for _ in range(head.logarithms):
        weights = torch.log1p(weights)
    return weights.amax(0)


def lexical(head: Lexical, tokens: torch.Tensor, ids: Sequence[int], skipped: Container[int]) -> torch.Tensor:
    """FP32 [n, hidden] and the ids of the tokens to the weights over the vocabulary, of which some are skipped."""
    weights = torch.zeros(head.size)
    for token, weight in zip(ids, torch.relu(_linear(head.output, tokens))[:, 0], strict=True):
        if token not in skipped:
            weights[token] = torch.maximum(weights[token], weight)
    return weights


def maxsim(query: torch.Tensor, document: torch.Tensor) -> torch.Tensor:
    """The score of a document for a query, FP32 [n, width] and [m, width] of length 1."""
    return (query @ document.T).amax(1).mean()


class PlainModule(torch.nn.Module):
    """An encoder that sentence-transformers cannot load, as the first module of one of its models all the same.

    Args:
        tokenizer: transformers', which reads tokenizer_config.json also.
        encode: the encoder.
        max_seq_length: tokens at which texts are cut.
        head: of a cross-encoder or a sparse model.
        segments: whether the encoder gets the tokens' types.

    Attributes:
        tokenizer: as above.
        max_seq_length: as above.
    """

    modalities = ("text",)

    def __init__(
        self, tokenizer: Any, encode: Encode, max_seq_length: int, head: Pooled | Vocabulary | None, *, segments: bool
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.max_seq_length = max_seq_length
        self._encode, self._head, self._segments = encode, in_memory(head), segments
        self.place = torch.nn.Parameter(torch.zeros(0))  # tells the library the device and the element type

    def preprocess(self, inputs: list[Any], prompt: str | None = None) -> dict[str, Any]:
        """The features of one text or pair, a prompt before its first."""
        texts = [inputs[0]] if isinstance(inputs[0], str) else list(inputs[0])
        texts[0] = (prompt or "") + texts[0]
        options = {"truncation": "longest_first", "max_length": self.max_seq_length, "return_tensors": "pt"}
        # In a list: given as two arguments, transformers takes an empty second text for none.
        item = texts[0] if len(texts) == 1 else tuple(texts)
        features = dict(self.tokenizer([item], return_token_type_ids=True, **options))
        if prompt:  # for a pooling that leaves it out
            ids = self.tokenizer(prompt, truncation=True, max_length=self.max_seq_length)["input_ids"]
            features["prompt_length"] = len(ids) - (ids[-1] in self.tokenizer.all_special_ids)
        return features

    @torch.inference_mode()
    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """The features of one text with `token_embeddings` [1, tokens, hidden], and the answer of its head."""
        ids, masked = features["input_ids"][0].tolist(), int((features["attention_mask"] == 0).sum())
        types = features["token_type_ids"][0].tolist() if self._segments else [0] * len(ids)
        tokens = self._encode(ids, types, masked)
        found = {"token_embeddings": tokens[None]}
        if isinstance(self._head, Pooled):
            found["scores"] = through(self._head.layers, pool(self._head.pooling, tokens)[None])
        elif self._head is not None:
            found["sentence_embedding"] = vocabulary(self._head, tokens)[None]
        return features | found


def _layer(layer: Layer, x: torch.Tensor, keys: int) -> torch.Tensor:
    def attended(y: torch.Tensor) -> torch.Tensor:
        return _normed(layer.attention_post_norm, _attend(layer.attention, y, keys))

    def fed(y: torch.Tensor) -> torch.Tensor:
        return _normed(layer.feed_forward_post_norm, _feed_forward(layer.feed_forward, y))

    if layer.pre_norm:
        x = x + attended(_normed(layer.attention_norm, x))
        return x + fed(_normed(layer.feed_forward_norm, x))
    x = _normed(layer.attention_norm, x + attended(x))
    return _normed(layer.feed_forward_norm, x + fed(x))


def _attend(attention: Attention, x: torch.Tensor, keys: int) -> torch.Tensor:
    shared = attention.heads // attention.key_heads
    query = _rotated(attention.rotary, _normed(attention.query_norm, _heads(attention.query, attention.heads, x)))
    key = _rotated(attention.rotary, _normed(attention.key_norm, _heads(attention.key, attention.key_heads, x)))
    value = _heads(attention.value, attention.key_heads, x)
    key, value = (part.repeat_interleave(shared, dim=0) for part in (key, value))
    scores = query @ key.transpose(1, 2)
    if attention.relative is not None:
        scores += _relative_scores(attention.relative, query, key)
    scores = scores * attention.score_scale + _tensor(attention.score_matrix(len(x)))
    # Masked tokens are the last ones: they stay queries and are left out of the keys.
    context = torch.softmax(scores[..., :keys], dim=-1) @ value[:, :keys]
    return _linear(attention.output, context.transpose(0, 1).reshape(len(x), -1))


def _relative_scores(positions: RelativePositions, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    places = np.arange(query.shape[1])
    # By how far the other token is after the one whose content it is; the first axis is that of the contents.
    rows = positions.rows[positions.reach + places[None, :] - places[:, None]]
    found = torch.from_numpy(rows).expand(len(query), -1, -1)
    by_query = (query @ _tensor(positions.keys).transpose(1, 2)).gather(2, found)
    by_key = (key @ _tensor(positions.queries).transpose(1, 2)).gather(2, found)
    return by_query + by_key.transpose(1, 2)


def _heads(linear: Linear, heads: int, x: torch.Tensor) -> torch.Tensor:
    return _linear(linear, x).reshape(len(x), heads, -1).transpose(0, 1)


def _rotated(rotary: Rotary | None, x: torch.Tensor) -> torch.Tensor:
    if rotary is None:
        return x
    cos, sin = (_tensor(table[: x.shape[1]]) for table in (rotary.cos, rotary.sin))
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


def _feed_forward(network: FeedForward | Experts, x: torch.Tensor) -> torch.Tensor:
    if isinstance(network, Experts):
        return _mixture(network, x)
    activation, up = _ACTIVATIONS[network.activation.value], _linear(network.up, x)
    inner = activation(up) if network.gate is None else activation(_linear(network.gate, x)) * up
    return _linear(network.down, inner)


def _mixture(experts: Experts, x: torch.Tensor) -> torch.Tensor:
    """Every network computes every token; the weights of those that a token has not chosen are 0."""
    shares = torch.softmax(_linear(experts.router, x), dim=-1)
    largest = shares.topk(experts.chosen, dim=-1)
    kept = torch.zeros_like(shares).scatter(-1, largest.indices, largest.values)
    parts = [kept[:, [index]] * _feed_forward(network, x) for index, network in enumerate(experts.networks)]
    mixed = torch.stack(parts).sum(0)
    return mixed if experts.bias is None else mixed + _tensor(experts.bias)


def _normed(norm: Norm | None, x: torch.Tensor) -> torch.Tensor:
    if norm is None:
        return x
    if norm.rms:
        return functional.rms_norm(x, x.shape[-1:], _tensor(norm.scale), norm.epsilon)
    bias = None if norm.bias is None else _tensor(norm.bias)
    return functional.layer_norm(x, x.shape[-1:], _tensor(norm.scale), bias, norm.epsilon)


def _linear(linear: Linear, x: torch.Tensor) -> torch.Tensor:
    y = x @ _tensor(linear.weight)
    return y if linear.bias is None else y + _tensor(linear.bias)


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
