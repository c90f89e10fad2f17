"""int8 matrix products that do not depend on the batch: one activation scale a token, one weight scale a column.

onnxruntime's own dynamic quantisation takes one scale for the whole tensor, so that a text's vector depends on the
texts it happens to share a batch with. Here no number crosses from one token to another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from conch_export.graphs.builder import MICROSOFT, GraphBuilder

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_LIMIT = 127


def quantize(model: onnx.ModelProto, keep: Callable[[str], bool] = lambda _: False) -> onnx.ModelProto:
    """Every product of tokens with a constant matrix as int8.

    Args:
        model: a graph; it is left as it is.
        keep: names of weights that stay in float.
    """
    g = GraphBuilder(prefix="int8.")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    quantized: dict[str, tuple[str, str]] = {}
    replaced = set()
    for node in model.graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or len(weight.dims) != 2 or keep(weight.name):
            g.nodes.append(node)
            continue
        x = node.input[0]
        if x not in quantized:
            quantized[x] = _quantize_tokens(g, x)
        _multiply(g, quantized[x], weight.name, numpy_helper.to_array(weight), node.output[0])
        replaced.add(weight.name)
    kept = [tensor for name, tensor in weights.items() if name not in replaced]
    graph = onnx.helper.make_graph(
        g.nodes, model.graph.name, model.graph.input, model.graph.output, [*kept, *g.constants.values()]
    )
    return onnx.helper.make_model(
        graph, producer_name=model.producer_name, opset_imports=model.opset_import, ir_version=model.ir_version
    )


def _quantize_tokens(g: GraphBuilder, x: str) -> tuple[str, str]:
    """UINT8 [T, K] around 128, and the scale of each token as a column [T, 1]."""
    largest = g.node("ReduceMax", g.node("Abs", x), g.int64([1]), keepdims=0)
    scale = g.node("Max", g.node("Mul", largest, g.constant(np.float32(1 / _LIMIT))), g.constant(np.float32(1e-8)))
    zero = g.node("Expand", g.constant(np.uint8(128)), g.node("Shape", scale))
    return g.node("QuantizeLinear", x, scale, zero, axis=0), g.column(scale)


def _multiply(g: GraphBuilder, tokens: tuple[str, str], name: str, weight: NDArray[np.float32], output: str) -> None:
    values, column = tokens
    scale = np.maximum(np.abs(weight).max(axis=0) / _LIMIT, np.finfo(np.float32).tiny)
    integers = np.clip(np.round(weight / scale), -_LIMIT, _LIMIT).astype(np.int8)
    unscaled = g.node(
        "MatMulIntegerToFloat",
        values,
        g.constant(integers, f"{name}.int8"),
        g.constant(np.float32(1)),
        g.constant(scale.astype(np.float32), f"{name}.scale"),
        g.constant(np.uint8(128)),
        domain=MICROSOFT,
    )
    g.node("Mul", unscaled, column, name=output)
