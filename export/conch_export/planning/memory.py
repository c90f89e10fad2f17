"""How much memory encoders and heads take when they are served. Hides what onnxruntime does with weights, activations.

Every line follows from the shape of the weights; the few constants are fitted to measured peaks, and a test keeps the
sum within a quarter of them.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch_export.model.description import Pooling, Precision
from conch_export.model.heads import Dense, Lexical, Pooled, Static, Vocabulary
from conch_export.model.network import Experts, Linear
from conch_export.onnx.distances import SHORT_TOKENS, TILE_TOKENS
from conch_export.onnx.encoder import CHUNK_TOKENS
from conch_export.onnx.heads.sparse import TILE_TOKENS as LOGIT_TOKENS
from conch_export.onnx.quantization.quantize import TABLE_ELEMENTS
from conch_export.onnx.relative import rounded_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_export.model.arrays import Array
    from conch_export.model.heads import Head
    from conch_export.model.network import Attention, Encoder, Layer

_RUNTIME_BYTES = 66_000_000
"""Python, numpy and onnxruntime in a process that has opened a session."""
_FLOAT_BYTES = 4
_SPARE = 1.3
"""Held by onnxruntime's arena for every byte in use, because freed pieces do not fit the next request."""
_OUTPUT_COPIES = 3
"""Of token vectors: of a chunk, of all chunks, and in the slots of their requests."""
_TILE_COPIES = 6
"""Tiles of scores at a time: products, biases, their sum, its softmax, and gaps between them."""
_WEIGHT_COPIES = 6
"""Of a row's weights over the vocabulary: a head's layers, a mask of the positive ones as whole numbers, the result."""


@dataclass(frozen=True)
class Budget:
    """Bytes of one instance of an encoder, or of a head, while it computes.

    What is mapped only while the graph is opened, and embedding tables, of which texts use a few rows, are left out:
    the system drops such pages where it needs the room.

    Attributes:
        runtime: of the process, whatever it serves.
        weights: of matrix products, in the order that the processor wants; instances may share them.
        activations: of the tokens that are computed at a time.
        scores: of attention, or logits of a vocabulary, in tiles.
        outputs: of rows that wait for the last one.
    """

    runtime: int
    weights: int
    activations: int
    scores: int
    outputs: int

    @property
    def own(self) -> int:
        """Bytes that the instance shares with no other."""
        return self.runtime + self.activations + self.scores + self.outputs

    @property
    def total(self) -> int:
        """Of an instance alone."""
        return self.weights + self.own


@dataclass(frozen=True)
class Footprint:
    """Sizes on which the memory of an encoder depends.

    Attributes:
        tables: bytes of the weights that are looked up or added.
        matrices: bytes of the weights that are multiplied with.
        widest: numbers of a token that are alive at the widest point of a layer.
        hidden: width of a token's vector in what the graph gives; 0 where that is one vector for each row.
        heads: of attention.
        tiled: whether long rows are computed in tiles of scores, which a bias, a window or a causal mask requires.
        max_length: most tokens that a row may have.
    """

    tables: int
    matrices: int
    widest: int
    hidden: int
    heads: int
    tiled: bool
    max_length: int

    @classmethod
    def of(cls, encoder: Encoder | Static, precision: Precision) -> Footprint:
        """The footprint of an encoder's graph, or of a static model's, in this precision."""
        if isinstance(encoder, Static):
            return cls._of_static(encoder, precision)
        linears = [linear for layer in encoder.layers for linear in _linears(layer)]
        linears += [] if encoder.projection is None else [encoder.projection]
        looked_up = (encoder.embeddings, encoder.positions, encoder.types)
        tables = [_table_bytes(table, precision) for table in looked_up if table is not None]
        tables += [_relative_bytes(layer.attention, precision) for layer in encoder.layers]
        matrices = [_matrix_bytes(linear, precision) for linear in linears]
        return cls(
            tables=sum(tables),
            matrices=sum(matrices),
            widest=max(map(_widest, encoder.layers)),
            hidden=encoder.hidden,
            heads=max(layer.attention.heads for layer in encoder.layers),
            tiled=not all(layer.attention.is_plain for layer in encoder.layers),
            max_length=encoder.max_length,
        )

    @classmethod
    def _of_static(cls, static: Static, precision: Precision) -> Footprint:
        """A row's vectors are held as they are looked up and as they count; it gives one vector for each row."""
        layers = [layer.linear for layer in static.layers if isinstance(layer, Dense)]
        return cls(
            tables=_table_bytes(static.table, precision),
            matrices=sum(_matrix_bytes(layer, Precision.FP32) for layer in layers),
            widest=2 * int(static.table.shape[1]),
            hidden=0,
            heads=0,
            tiled=False,
            max_length=static.max_length,
        )

    @property
    def graph(self) -> int:
        """Bytes of all weights, as they lie beside the graph."""
        return self.tables + self.matrices

    def budget(self, length: int, tokens: int | None = None) -> Budget:
        """The peak of runs over this many tokens in rows of up to this length; None for one row."""
        tokens = tokens or length
        # The last row of a chunk begins within its first `CHUNK_TOKENS`.
        at_once = min(tokens, CHUNK_TOKENS - 1 + length)
        return Budget(
            runtime=_RUNTIME_BYTES,
            weights=self.matrices,
            activations=int(_SPARE * at_once * self.widest * _FLOAT_BYTES),
            scores=self._scores(length),
            outputs=_OUTPUT_COPIES * (tokens - length) * self.hidden * _FLOAT_BYTES,
        )

    def whole_scores(self, length: int) -> int:
        """Bytes of all attention scores of a row, had they to be held at once."""
        return self.heads * length * length * _FLOAT_BYTES

    def _scores(self, length: int) -> int:
        if not self.tiled:
            length = min(length, SHORT_TOKENS)  # of longer rows the fused operator holds a few queries' scores
        return _TILE_COPIES * self.heads * min(length, TILE_TOKENS) * length * _FLOAT_BYTES


@dataclass(frozen=True)
class HeadFootprint:
    """Sizes on which the memory of a head depends.

    Attributes:
        weights: bytes of all of them.
        widest: numbers of a token that are alive at the widest point.
        vocabulary: tokens that texts are given weights over; 0 for none.
        logits: numbers that are held at a time before a token's largest one is known.
    """

    weights: int
    widest: int
    vocabulary: int = 0
    logits: int = 0

    @classmethod
    def of(cls, head: Head, hidden: int, precision: Precision) -> HeadFootprint:
        """The footprint of its graph behind an encoder of this width; all but a vocabulary stays in fp32."""
        arrives = 2 * hidden  # as Triton hands it over, and without pads
        if isinstance(head, Lexical):
            # Two constants of its graph are as wide as the vocabulary: which tokens count, and zeros to scatter onto.
            tables = 2 * head.size * _FLOAT_BYTES
            return cls(tables, arrives, head.size)
        layers = [layer.linear for layer in head.layers if isinstance(layer, Dense)]
        sizes = [_matrix_bytes(layer, Precision.FP32) for layer in layers]
        if isinstance(head, Vocabulary):
            decoder, width = _matrix_bytes(head.decoder, precision), max([hidden, *map(_outputs, layers)])
            logits = LOGIT_TOKENS * head.size
            return cls(sum(sizes) + decoder, arrives + 2 * width, head.size, logits)
        if isinstance(head, Pooled):
            # These two read one token; the others cut all tokens of the row out of the table first.
            row = 0 if head.pooling in (Pooling.CLS, Pooling.LAST) else hidden
        else:
            row = 2 * (_outputs(layers[-1]) if layers else hidden)
        return cls(sum(sizes), arrives + row)

    def budget(self, length: int, rows: int = 1) -> Budget:
        """The peak of runs over this many rows of this many tokens."""
        return Budget(
            runtime=_RUNTIME_BYTES,
            weights=self.weights,
            activations=int(_SPARE * rows * length * self.widest * _FLOAT_BYTES),
            scores=self.logits * _FLOAT_BYTES,
            outputs=_WEIGHT_COPIES * rows * self.vocabulary * _FLOAT_BYTES,
        )


def _widest(layer: Layer) -> int:
    """Numbers of a token that are alive at most: in the feed-forward block, or while attention reorders its parts."""
    attention, network = layer.attention, layer.feed_forward.networks[0]
    hidden, inner = network.up.weight.shape
    queries, keys = _outputs(attention.query), _outputs(attention.key)
    attending = hidden + 2 * (queries + 2 * keys) + 2 * queries
    # All tokens may choose one expert; what chosen ones give is held twice: in the experts' order and in the tokens'.
    mixed = 2 * layer.feed_forward.chosen * hidden if isinstance(layer.feed_forward, Experts) else 0
    return int(max(attending, hidden + mixed + (2 if network.gate is None else 3) * inner))


def _linears(layer: Layer) -> list[Linear]:
    attention, linears = layer.attention, list[Linear]()
    for network in layer.feed_forward.networks:
        linears += [network.up, network.down, *([] if network.gate is None else [network.gate])]
    return [attention.query, attention.key, attention.value, attention.output, *linears]


def _outputs(linear: Linear) -> int:
    return int(linear.weight.shape[1])


def _matrix_bytes(linear: Linear, precision: Precision) -> int:
    return int(linear.weight.size) * (1 if precision is Precision.INT8 else _FLOAT_BYTES)


def _relative_bytes(attention: Attention, precision: Precision) -> int:
    """Of the relative positions that contents meet."""
    positions = attention.relative
    if positions is None:
        return 0
    if precision is Precision.INT8:
        return rounded_bytes(positions)
    return (positions.keys.size + positions.queries.size) * _FLOAT_BYTES


def _table_bytes(table: Array, precision: Precision) -> int:
    rounded = precision is Precision.INT8 and table.size > TABLE_ELEMENTS
    return int(table.size) * (1 if rounded else _FLOAT_BYTES)


def longest(most: int, fits: Callable[[int], bool]) -> int:
    """Return the greatest length up to `most` that fits; 0 if none does. Memory never falls as texts get longer."""
    return bisect_left(range(1, most + 1), 1, key=lambda length: int(not fits(length)))
