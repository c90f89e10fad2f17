"""Whether the tensors of a head fit each other and the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_export.model.heads import Dense, Lexical, Static, Vocabulary
from conch_export.model.network import Norm
from conch_export.model.shapes import Compared, of_linear, of_norm, refuse

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from conch_export.model.heads import Head, HeadLayer


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
    refuse(_head(head, hidden, vocabulary, dimension))


def _head(head: Head | Static, hidden: int, vocabulary: int, dimension: int) -> Iterator[Compared]:
    if isinstance(head, Lexical):
        yield from of_linear("the layer of lexical weights", head.output, hidden, 1)
        return
    width = yield from _layers(head.layers, head.table.shape[1] if isinstance(head, Static) else hidden)
    if isinstance(head, Vocabulary):
        yield from of_linear("the layer to the vocabulary", head.decoder, width, vocabulary)
    elif dimension:
        yield "the answer of the last layer", (width,), (dimension,)


def _layers(layers: Iterable[HeadLayer], width: int) -> Generator[Compared, None, int]:
    """The layers of a head that gets vectors of this width; returns the width of those that it gives."""
    for number, layer in enumerate(layers, 1):
        where = f"layer {number} behind the encoder"
        if isinstance(layer, Norm):
            yield from of_norm(where, layer, width)
        elif isinstance(layer, Dense):
            outputs = int(layer.linear.weight.shape[1])
            yield from of_linear(where, layer.linear, width, outputs)
            if layer.residual is not None:
                yield from of_linear(f"{where}: residual", layer.residual, width, outputs)
            width = outputs
    return width
