"""How much memory an encoder takes, told before it is served. Hides what onnxruntime does with weights and activations.

Every line follows from the encoder's shape; the few constants are fitted to measured peaks, and a test keeps the sum
within a quarter of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch_export.model.description import Precision
from conch_export.onnx.attention import SHORT_TOKENS
from conch_export.onnx.distances import TILE_TOKENS
from conch_export.onnx.encoder import CHUNK_TOKENS
from conch_export.onnx.quantization.quantize import TABLE_ELEMENTS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from conch_export.model.network import Encoder, Layer, Linear

RUNTIME_BYTES = 66_000_000
"""Python, numpy and onnxruntime in a process that has opened a session."""
FLOAT_BYTES = 4
SPARE = 1.3
"""What onnxruntime's arena holds for every byte in use, because freed pieces do not fit what is asked for next."""
_OUTPUT_COPIES = 3
"""Of token vectors: of a chunk, of all chunks, and in the slots of their requests."""
_TILE_COPIES = 6
"""Tiles of scores at a time: products, biases, their sum, its softmax, and gaps between them."""


@dataclass(frozen=True)
class Budget:
    """Bytes of one instance of an encoder, or of a head.

    Attributes:
        runtime: of the process, whatever it serves.
        weights: as the graph holds them.
        loading: the largest weight once more, while the graph is read; gone before anything is computed.
        packed: once more, those of matrix products in the order that the processor wants.
        activations: of the tokens that are computed at a time.
        scores: of attention, or of words, in tiles.
        outputs: of rows that wait for the last one.
    """

    runtime: int
    weights: int
    loading: int
    packed: int
    activations: int
    scores: int
    outputs: int

    @property
    def total(self) -> int:
        """The peak: when the graph is read, or when it computes."""
        computing = self.packed + self.activations + self.scores + self.outputs
        return self.runtime + self.weights + max(self.loading, computing)


@dataclass(frozen=True)
class Footprint:
    """What of an encoder its memory depends on.

    Attributes:
        tables: bytes of the weights that are looked up or added.
        matrices: bytes of the weights that are multiplied with.
        largest: bytes of the largest weight.
        widest: numbers that a token has at the widest point of a layer, all that is alive there.
        hidden: width of a token's vector.
        heads: of attention.
        tiled: whether long rows are computed in tiles of scores, which a bias, a window or a causal mask asks for.
        max_length: most tokens that a row may have.
    """

    tables: int
    matrices: int
    largest: int
    widest: int
    hidden: int
    heads: int
    tiled: bool
    max_length: int

    @classmethod
    def of(cls, encoder: Encoder, precision: Precision) -> Footprint:
        """The footprint of its graph in this precision."""
        linears = [linear for layer in encoder.layers for linear in _linears(layer)]
        looked_up = (encoder.words, encoder.positions, encoder.types)
        tables = [_table_bytes(table, precision) for table in looked_up if table is not None]
        matrices = [_matrix_bytes(linear, precision) for linear in linears]
        return cls(
            tables=sum(tables),
            matrices=sum(matrices),
            largest=max(tables + matrices),
            widest=max(map(_widest, encoder.layers)),
            hidden=encoder.hidden,
            heads=max(layer.attention.heads for layer in encoder.layers),
            tiled=not all(layer.attention.is_plain for layer in encoder.layers),
            max_length=encoder.max_length,
        )

    def budget(self, length: int, rows: int = 1) -> Budget:
        """The peak of runs over this many rows of this many tokens."""
        rows_at_once = min(rows, -(-CHUNK_TOKENS // length))
        return Budget(
            runtime=RUNTIME_BYTES,
            weights=self.tables + self.matrices,
            loading=self.largest,
            packed=self.matrices,
            activations=int(SPARE * rows_at_once * length * self.widest * FLOAT_BYTES),
            scores=self._scores(length),
            outputs=_OUTPUT_COPIES * (rows - 1) * length * self.hidden * FLOAT_BYTES,
        )

    def whole_scores(self, length: int) -> int:
        """Bytes of all attention scores of a row, had they to be held at once."""
        return self.heads * length * length * FLOAT_BYTES

    def _scores(self, length: int) -> int:
        if length > SHORT_TOKENS and not self.tiled:
            return 0  # the fused operator holds a few queries' scores
        return _TILE_COPIES * self.heads * min(length, TILE_TOKENS) * length * FLOAT_BYTES


def _widest(layer: Layer) -> int:
    """Numbers a token has where most are alive: in the feed-forward network, or while attention turns its parts."""
    attention, network = layer.attention, layer.feed_forward
    hidden, inner = network.up.weight.shape
    queries, keys = (linear.weight.shape[1] for linear in (attention.query, attention.key))
    joined = queries + 2 * keys
    attending = hidden + 2 * joined + 2 * queries
    return int(max(attending, hidden + (2 if network.gate is None else 3) * inner))


def _linears(layer: Layer) -> list[Linear]:
    attention, network = layer.attention, layer.feed_forward
    gate = [network.gate] if network.gate is not None else []
    return [attention.query, attention.key, attention.value, attention.output, network.up, network.down, *gate]


def _matrix_bytes(linear: Linear, precision: Precision) -> int:
    return int(linear.weight.size) * (1 if precision is Precision.INT8 else FLOAT_BYTES)


def _table_bytes(table: NDArray[np.float32], precision: Precision) -> int:
    rounded = precision is Precision.INT8 and table.size > TABLE_ELEMENTS
    return int(table.size) * (1 if rounded else FLOAT_BYTES)
