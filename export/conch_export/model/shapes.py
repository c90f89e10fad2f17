"""Whether tensors of an encoder and its heads fit each other and config.json. A checkpoint that mixes two is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_export.errors import SourceError
from conch_export.model.heads import Dense, Lexical, Static, Vocabulary
from conch_export.model.network import Experts, Norm

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from conch_export.model.heads import Head, HeadLayer
    from conch_export.model.network import Encoder, FeedForward, Layer, Linear

_Shape = tuple[int, ...]
_Compared = tuple[str, _Shape, _Shape]
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
    _refuse(_shapes(encoder, vocabulary, embedded, hidden, inner))


def refuse_misfit_head(head: Head | Static, hidden: int, vocabulary: int, dimension: int) -> None:
    """Compare the shapes of a head's tensors, or of the layers of a static model.

    Args:
        head: as it was read.
        hidden: width of a token's vector.
        vocabulary: number of tokens.
        dimension: length of what it answers; 0 for a score.

    Raises:
        SourceError: one is not as it should be; the message names it.
    """
    _refuse(_head(head, hidden, vocabulary, dimension))


def _refuse(shapes: Iterable[_Compared]) -> None:
    for what, found, expected in shapes:
        if found != expected:
            msg = (
                f"{what} has the shape {list(found)} where config.json and the other tensors say {list(expected)}: the "
                "checkpoint's files are not of one model, fetch it again"
            )
            raise SourceError(msg)


def _shapes(encoder: Encoder, vocabulary: int, embedded: int, hidden: int, inner: int) -> Iterator[_Compared]:
    yield "the embedding table", encoder.embeddings.shape, (vocabulary, embedded)
    for what, table in (("positions", encoder.positions), ("segments", encoder.types)):
        if table is not None:
            yield f"the table of {what}", table.shape, (len(table), embedded)
    yield from _norm("the norm of the embeddings", encoder.norm, embedded)
    if encoder.projection is not None:
        yield from _linear("the projection of the embeddings", encoder.projection, embedded, hidden)
    yield from _norm("the norm of the last layer", encoder.final_norm, hidden)
    for number, layer in enumerate(encoder.layers):
        yield from _layer(f"layer {number}", layer, hidden, inner)


def _head(head: Head | Static, hidden: int, vocabulary: int, dimension: int) -> Iterator[_Compared]:
    if isinstance(head, Lexical):
        yield from _linear("the layer of lexical weights", head.output, hidden, 1)
        return
    width = yield from _layers(head.layers, head.table.shape[1] if isinstance(head, Static) else hidden)
    if isinstance(head, Vocabulary):
        yield from _linear("the layer to the vocabulary", head.decoder, width, vocabulary)
    elif dimension:
        yield "the answer of the last layer", (width,), (dimension,)


def _layers(layers: Iterable[HeadLayer], width: int) -> Generator[_Compared, None, int]:
    """The layers of a head that gets vectors of this width; returns the width of those that it gives."""
    for number, layer in enumerate(layers, 1):
        where = f"layer {number} behind the encoder"
        if isinstance(layer, Norm):
            yield from _norm(where, layer, width)
        elif isinstance(layer, Dense):
            outputs = int(layer.linear.weight.shape[1])
            yield from _linear(where, layer.linear, width, outputs)
            if layer.residual is not None:
                yield from _linear(f"{where}: residual", layer.residual, width, outputs)
            width = outputs
    return width


def _layer(where: str, layer: Layer, hidden: int, inner: int) -> Iterator[_Compared]:
    attention = layer.attention
    # Rounded up, so that outputs of a query that its heads cannot share evenly are a misfit too.
    width = -(-attention.query.weight.shape[1] // attention.heads)
    queries, keys = attention.heads * width, attention.key_heads * width
    yield from _linear(f"{where}: query", attention.query, hidden, queries)
    yield from _linear(f"{where}: key", attention.key, hidden, keys)
    yield from _linear(f"{where}: value", attention.value, hidden, keys)
    yield from _linear(f"{where}: output of the attention", attention.output, queries, hidden)
    yield from _feed_forward(where, layer.feed_forward, hidden, inner)
    for what, norm, size in (
        ("attention", layer.attention_norm, hidden),
        ("feed-forward", layer.feed_forward_norm, hidden),
        ("output of the attention", layer.attention_post_norm, hidden),
        ("output of the feed-forward", layer.feed_forward_post_norm, hidden),
        ("queries", attention.query_norm, width),
        ("keys", attention.key_norm, width),
    ):
        yield from _norm(f"{where}: norm of the {what}", norm, size)
    if attention.rotary is not None:
        yield f"{where}: width of a head", (width,), (2 * attention.rotary.cos.shape[1],)


def _feed_forward(where: str, block: FeedForward | Experts, hidden: int, inner: int) -> Iterator[_Compared]:
    for network in block.networks:
        yield from _linear(f"{where}: feed-forward", network.up, hidden, inner)
        yield from _linear(f"{where}: output of the feed-forward", network.down, inner, hidden)
        if network.gate is not None:
            yield from _linear(f"{where}: gate", network.gate, hidden, inner)
    if isinstance(block, Experts):
        yield from _linear(f"{where}: router", block.router, hidden, len(block.networks))
        if block.bias is not None:
            yield f"{where}: bias of the experts", block.bias.shape, (hidden,)


def _linear(what: str, linear: Linear, inputs: int, outputs: int) -> Iterator[_Compared]:
    # Outputs first, as the checkpoint has them, so that the message shows what is in the file.
    yield what, linear.weight.shape[::-1], (outputs, inputs)


def _norm(what: str, norm: Norm | None, size: int) -> Iterator[_Compared]:
    for array in () if norm is None else (norm.scale, norm.bias):
        if array is not None:
            yield what, array.shape, (size,)
