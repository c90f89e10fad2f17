"""How much memory a head takes in a process of its own beside the encoder; `memory` says how that is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch_export.model.description import Pooling, Precision
from conch_export.model.heads import Dense, Lexical, Projection, Vocabulary
from conch_export.onnx.heads.sparse import TILE_TOKENS
from conch_export.planning.memory import FLOAT_BYTES, RUNTIME_BYTES, SPARE, Budget

if TYPE_CHECKING:
    from conch_export.model.heads import Head

_WORD_COPIES = 6
"""Of a row's weights of words: their steps, a mask of those above 0 as whole numbers, and the largest of them."""
_ONE_TOKEN = (Pooling.CLS, Pooling.LAST)


@dataclass(frozen=True)
class HeadFootprint:
    """What of a head its memory depends on.

    Attributes:
        weights: bytes of all of them.
        largest: bytes of the largest one.
        widest: numbers that a token has where most are alive.
        words: of the vocabulary that texts are weighed by; 0 for none.
        logits: numbers that are held at a time before a word's largest one is known.
    """

    weights: int
    largest: int
    widest: int
    words: int = 0
    logits: int = 0

    @classmethod
    def of(cls, head: Head, hidden: int, precision: Precision) -> HeadFootprint:
        """The footprint of its graph behind an encoder of this width; all but a vocabulary stays in fp32."""
        arrives = 2 * hidden  # as Triton hands it over, and without pads
        if isinstance(head, Lexical):
            tables = 2 * head.size * FLOAT_BYTES
            return cls(tables, tables // 2, arrives, head.size)
        layers = [step.linear.weight for step in head.steps if isinstance(step, Dense)]
        sizes = [int(layer.size) * FLOAT_BYTES for layer in layers]
        width = max([hidden, *(layer.shape[1] for layer in layers)])
        if isinstance(head, Vocabulary):
            count = int(head.decoder.weight.size) * (1 if precision is Precision.INT8 else FLOAT_BYTES)
            return cls(sum(sizes) + count, count, arrives + 2 * width, head.size, TILE_TOKENS * head.size)
        if isinstance(head, Projection):
            out = layers[-1].shape[1] if layers else hidden
            return cls(sum(sizes), max(sizes, default=0), arrives + 2 * out)
        row = 0 if head.pooling in _ONE_TOKEN else hidden
        return cls(sum(sizes), max(sizes, default=0), arrives + row)

    def budget(self, length: int, rows: int = 1) -> Budget:
        """The peak of runs over this many rows of this many tokens.

        Nothing is packed once more: the copy of the one large matrix takes the place of what was read.
        """
        return Budget(
            runtime=RUNTIME_BYTES,
            weights=self.weights,
            loading=self.largest,
            packed=0,
            activations=int(SPARE * rows * length * self.widest * FLOAT_BYTES),
            scores=self.logits * FLOAT_BYTES,
            outputs=_WORD_COPIES * rows * self.words * FLOAT_BYTES,
        )
