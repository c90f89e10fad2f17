"""Graphs without an encoder: a static model's vectors, and the weights of queries that are looked up.

Contract, as that of encoders (see `packed`): input_ids, attention_mask INT64 [N], their lengths INT32 [R]; and one of
    embedding         FP32 [R, width], the whole answer of a static model
    indices, weights  INT32 and FP32 [R, K], K that of the row with most; a weight of 0 fills up
NaN for a row that holds an id outside the table, no token at all or too many, or whose mask has another length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from conch_export.onnx.builder import GraphBuilder
from conch_export.onnx.graph import Graph
from conch_export.onnx.heads.frame import through
from conch_export.onnx.layout import IDS, MASK, ROW_LENGTHS, Layout, lengths_name, restore
from conch_export.onnx.packed import clamp
from conch_export.onnx.ragged import all_by_row, for_each_row, locate_tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conch_export.model.heads import Static
    from conch_export.onnx.builder import Tensor

_NAN = np.float32(np.nan)
_INPUTS: list[Tensor] = [
    (IDS, TensorProto.INT64, ["N"]),
    (MASK, TensorProto.INT64, ["N"]),
    (ROW_LENGTHS, TensorProto.INT32, ["R"]),
    (lengths_name(MASK), TensorProto.INT32, ["R"]),
]


class _Rows:
    """The tokens of all rows.

    Attributes:
        g: the graph.
        ids: INT64 [T], within the table.
        tokens: where they are.
    """

    def __init__(self, entries: int, max_length: int) -> None:
        self.g = g = GraphBuilder()
        self._layout = Layout(g, IDS, {MASK: lengths_name(MASK)})
        self.tokens = locate_tokens(g, self._layout, max_length=max_length)
        self.ids, known = clamp(g, self._layout.read(IDS, self.tokens.slots, self.tokens.rows), entries)
        self._refused = g.column(g.node("Or", g.node("Not", all_by_row(g, known, self.tokens)), self.tokens.malformed))

    def give(self, output: str, per_row: str, filler: np.generic = _NAN) -> None:
        """Answer [C, width] as [R, width], with the filler for rows that are refused."""
        g = self.g
        kept = g.node("Where", self._refused, g.constant(filler), per_row)
        restore(g, kept, self._layout.places, filler, output)


def static_graph(model: Static) -> Graph:
    """Token ids to FP32 [R, width] called `embedding`; zeros, before the layers, for a text of unknown tokens alone."""
    rows = _Rows(len(model.table), model.max_length)
    g, table = rows.g, rows.g.constant(model.table, "table")

    def one_row(inner: GraphBuilder, first: str, last: str) -> str:
        ids = inner.slice(rows.ids, first, last)
        vectors, axis = inner.node("Gather", table, ids), inner.int64([0])
        if model.unknown is None:
            return inner.node("ReduceMean", vectors, axis, keepdims=0)
        counts = inner.cast(inner.node("Not", inner.node("Equal", ids, inner.int64(model.unknown))), TensorProto.FLOAT)
        total = inner.node("ReduceSum", inner.node("Mul", vectors, inner.column(counts)), axis, keepdims=0)
        count = inner.node("Max", inner.node("ReduceSum", counts, keepdims=0), inner.constant(np.float32(1)))
        return inner.node("Div", total, count)

    means = for_each_row(g, rows.tokens.spans, one_row, ragged=False)
    rows.give("embedding", through(g, means, model.layers))
    width = next((layer.linear.weight.shape[1] for layer in model.layers[::-1] if hasattr(layer, "linear")), None)
    output: Tensor = ("embedding", TensorProto.FLOAT, ["R", int(width or model.table.shape[1])])
    return Graph.of(g, "static", _INPUTS, [output])


def query_graph(weights: NDArray[np.float32], max_length: int) -> Graph:
    """Token ids to the weights of the tokens that occur, each once, from FP32 [vocabulary]: nothing is computed."""
    rows = _Rows(len(weights), max_length)
    g, size = rows.g, rows.g.int64(len(weights))
    # Row and token as one number: sorted and without repetition, those of a row stay next to each other.
    keys = g.node("Unique", g.node("Add", g.node("Mul", rows.tokens.rows, size), rows.ids), sorted=1)
    places, ids = g.node("Div", keys, size), g.node("Mod", keys, size)
    zeros = g.node("Expand", g.int64(0), g.node("Shape", rows.tokens.spans.first))
    ones = g.node("Expand", g.int64(1), g.node("Shape", keys))
    counts = g.node("ScatterElements", zeros, places, ones, axis=0, reduction="add")
    begins = g.node("Sub", g.cumsum(counts), counts)
    columns = g.node("Sub", g.arange(g.size(keys)), g.node("Gather", begins, places))
    most = g.node("ReduceMax", counts, keepdims=1)
    shape = g.node("Concat", g.node("Shape", counts), most, axis=0)
    cells = g.node("Add", g.node("Mul", places, most), columns)

    def spread(values: str, zero: str) -> str:
        """[distinct tokens] to [C, K]."""
        empty = g.node("Expand", zero, g.node("Mul", g.node("Shape", counts), most))
        return g.node("Reshape", g.node("ScatterElements", empty, cells, values, axis=0), shape)

    looked_up = g.node("Gather", g.constant(weights, "weights.tokens"), ids)
    rows.give("weights", spread(looked_up, g.constant(np.float32(0))))
    rows.give("indices", g.cast(spread(ids, g.int64(0)), TensorProto.INT32), np.int32(0))
    outputs: list[Tensor] = [("indices", TensorProto.INT32, ["R", "K"]), ("weights", TensorProto.FLOAT, ["R", "K"])]
    return Graph.of(g, "queries", _INPUTS, outputs)
