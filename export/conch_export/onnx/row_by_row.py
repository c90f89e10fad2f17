"""Any encoder that takes [1, length] inputs, run once a row: for architectures without a family.

No pad is computed and no row meets another, as in `encoder`; what is lost is that short rows do not share the
token-wise products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import compose

from conch_export.errors import UnsupportedError
from conch_export.onnx.packed import Shape, packed_model
from conch_export.onnx.ragged import Spans, for_each_row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from conch_export.onnx.builder import GraphBuilder
    from conch_export.onnx.graph import Graph

_PREFIX = "row."


def row_by_row(graph: Graph, shape: Shape) -> Graph:
    """Give a padded encoder the packed contract.

    Args:
        graph: takes `input_ids`, `attention_mask` and perhaps `token_type_ids`, INT64 [batch, length], and returns
            one output, FP32 [batch, length, hidden].
        shape: its sizes; with segments the packed encoder takes `token_type_ids` too.

    Raises:
        UnsupportedError: segments are asked for, and the encoder takes none.
    """
    model = graph.model
    if shape.segments and "token_type_ids" not in {tensor.name for tensor in model.graph.input}:
        msg = "the converted encoder takes no token_type_ids, which separate query and document: it is not built"
        raise UnsupportedError(msg)
    # Weights keep their names, by which calibration of the bare encoder says how each of them is rounded.
    inside = compose.add_prefix(model, _PREFIX, rename_initializers=False)

    def rows(g: GraphBuilder, vectors: Sequence[str], spans: Spans) -> str:
        # Weights go into the outermost graph: onnxruntime packs them once there, and quantization looks for them there.
        g.adopt(inside.graph.initializer, graph.weights)

        def one_row(inner: GraphBuilder, begin: str, end: str) -> str:
            names = {"input_ids": vectors[0]} | ({"token_type_ids": vectors[2]} if shape.segments else {})
            known = {name: inner.line(inner.slice(vector, begin, end)) for name, vector in names.items()}
            # The encoder's nodes are copied into the loop, where its inputs are nodes of the names that it reads.
            for tensor in model.graph.input:
                _feed(inner, tensor.name, known["input_ids"], known)
            inner.nodes.extend(inside.graph.node)
            return inner.node("Squeeze", inside.graph.output[0].name, inner.int64([0]))

        return for_each_row(g, spans, one_row, ragged=True)

    return packed_model(shape, rows)


def padded_feed(graph: Graph, ids: Sequence[int], types: Sequence[int] | None = None) -> dict[str, NDArray[np.int64]]:
    """The inputs of the encoder that `row_by_row` takes, for one row; without types all tokens are of type 0."""
    row = np.asarray([ids], np.int64)
    known = {"input_ids": row} | ({} if types is None else {"token_type_ids": np.asarray([types], np.int64)})
    return {t.name: known.get(t.name, np.full_like(row, _filler(t.name))) for t in graph.model.graph.input}


def _feed(g: GraphBuilder, name: str, ids: str, known: Mapping[str, str]) -> None:
    """Give the encoder an input: one of the known, or the value for text without pads and segments."""
    if name in known:
        g.node("Identity", known[name], name=f"{_PREFIX}{name}")
    else:
        g.node("Expand", g.int64(_filler(name)), g.node("Shape", ids), name=f"{_PREFIX}{name}")


def _filler(name: str) -> int:
    """The value of an input other than the ids, for text without pads and segments."""
    return 1 if name == "attention_mask" else 0
