"""Whether an encoder's tensors fit each other and its config.json. A checkpoint that mixes two is found here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_export.errors import SourceError
from conch_export.model.network import Experts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from conch_export.model.network import Encoder, FeedForward, Layer, Linear, Norm

_Shape = tuple[int, ...]
Compared = tuple[str, _Shape, _Shape]
"""A tensor, the shape that it has and the one that it should have."""


def refuse_misfits(encoder: Encoder, vocabulary: int, embedded: int, hidden: int, inner: int) -> None:
    """Compare the shapes of an encoder's tensors.

    Args:
        encoder: as its family read it.
        vocabulary: rows of its embedding table, as config.json states.
        embedded: width of that table, likewise.
        hidden: width of a token's vector in the layers, likewise.
        inner: width of the feed-forward network, likewise.

    Raises:
        SourceError: one is not as it should be; the message names it.
    """
    refuse(_shapes(encoder, vocabulary, embedded, hidden, inner))


def refuse(shapes: Iterable[Compared]) -> None:
    """Raise SourceError where a tensor has another shape than it should have."""
    for what, found, expected in shapes:
        if found != expected:
            msg = (
                f"{what} has the shape {list(found)} where config.json and the other tensors say {list(expected)}: the "
                "checkpoint's files are not of one model, fetch it again"
            )
            raise SourceError(msg)


def _shapes(encoder: Encoder, vocabulary: int, embedded: int, hidden: int, inner: int) -> Iterator[Compared]:
    yield "the embedding table", encoder.embeddings.shape, (vocabulary, embedded)
    for what, table in (("positions", encoder.positions), ("segments", encoder.types)):
        if table is not None:
            yield f"the table of {what}", table.shape, (len(table), embedded)
    yield from of_norm("the norm of the embeddings", encoder.norm, embedded)
    if encoder.projection is not None:
        yield from of_linear("the projection of the embeddings", encoder.projection, embedded, hidden)
    yield from of_norm("the norm of the last layer", encoder.final_norm, hidden)
    for number, layer in enumerate(encoder.layers):
        yield from _layer(f"layer {number}", layer, hidden, inner)


def _layer(where: str, layer: Layer, hidden: int, inner: int) -> Iterator[Compared]:
    attention = layer.attention
    # Rounded up, so that outputs of a query that its heads cannot share evenly are a misfit too.
    width = -(-attention.query.weight.shape[1] // attention.heads)
    queries, keys = attention.heads * width, attention.key_heads * width
    yield from of_linear(f"{where}: query", attention.query, hidden, queries)
    yield from of_linear(f"{where}: key", attention.key, hidden, keys)
    yield from of_linear(f"{where}: value", attention.value, hidden, keys)
    yield from of_linear(f"{where}: output of the attention", attention.output, queries, hidden)
    yield from _feed_forward(where, layer.feed_forward, hidden, inner)
    for what, norm, size in (
        ("attention", layer.attention_norm, hidden),
        ("feed-forward", layer.feed_forward_norm, hidden),
        ("output of the attention", layer.attention_post_norm, hidden),
        ("output of the feed-forward", layer.feed_forward_post_norm, hidden),
        ("queries", attention.query_norm, width),
        ("keys", attention.key_norm, width),
    ):
        yield from of_norm(f"{where}: norm of the {what}", norm, size)
    if attention.rotary is not None:
        yield f"{where}: width of a head", (width,), (2 * attention.rotary.cos.shape[1],)


def _feed_forward(where: str, block: FeedForward | Experts, hidden: int, inner: int) -> Iterator[Compared]:
    for network in block.networks:
        yield from of_linear(f"{where}: feed-forward", network.up, hidden, inner)
        yield from of_linear(f"{where}: output of the feed-forward", network.down, inner, hidden)
        if network.gate is not None:
            yield from of_linear(f"{where}: gate", network.gate, hidden, inner)
    if isinstance(block, Experts):
        yield from of_linear(f"{where}: router", block.router, hidden, len(block.networks))
        if block.bias is not None:
            yield f"{where}: bias of the experts", block.bias.shape, (hidden,)


def of_linear(what: str, linear: Linear, inputs: int, outputs: int) -> Iterator[Compared]:
    """The weight of a linear layer: outputs first, as the checkpoint has it, and as messages therefore show it."""
    yield what, linear.weight.shape[::-1], (outputs, inputs)


def of_norm(what: str, norm: Norm | None, size: int) -> Iterator[Compared]:
    """The scale and the bias of a norm, as far as it has them."""
    for array in () if norm is None else (norm.scale, norm.bias):
        if array is not None:
            yield what, array.shape, (size,)
