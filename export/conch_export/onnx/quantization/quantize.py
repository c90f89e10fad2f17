"""Quantizing a graph: int8 products as `calibrate` chose them, and int8 embedding tables.

GELU is computed by its tanh form, which differs from the exact one by less than a quantization step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from conch_export.model.arrays import LazyArray
from conch_export.onnx.builder import MICROSOFT, GraphBuilder, graphs_in, reads
from conch_export.onnx.graph import Graph
from conch_export.onnx.quantization.schemes import to_int8

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from conch_export.onnx.builder import Weight
    from conch_export.onnx.quantization.schemes import Int8Weight, Scheme

TABLE_ELEMENTS = 1 << 20
"""Embedding tables smaller than this stay as they are."""
_BLOCK_ROWS = 4096
"""Rows of a table that are rounded at a time."""


def quantize(graph: Graph, chosen: Mapping[str, tuple[Scheme, Int8Weight]]) -> Graph:
    """The graph with its products and large tables as int8; the given one is left as it is.

    Weights are rounded when the graph is written.

    Args:
        graph: its products may be inside loops.
        chosen: by the name of the weight, see `calibrate`; others stay in float.
    """
    result = onnx.ModelProto()
    result.CopyFrom(graph.model)
    rewriter = _Rewriter(graph.constants(), chosen)
    rewriter.rewrite(result.graph, rewriter.builder)
    used = set().union(*(reads(node) for node in result.graph.node))
    kept = [tensor for tensor in result.graph.initializer if tensor.name in used]
    del result.graph.initializer[:]
    result.graph.initializer.extend([*kept, *rewriter.builder.constants.values()])
    weights = {name: weight for name, weight in graph.weights.items() if name in used}
    return Graph(result, {**weights, **rewriter.builder.weights})


class _Rewriter:
    def __init__(self, constants: Mapping[str, Weight], chosen: Mapping[str, tuple[Scheme, Int8Weight]]) -> None:
        self.builder = GraphBuilder(prefix="int8.")
        self._constants = constants
        self._chosen = chosen

    def rewrite(self, graph: onnx.GraphProto, g: GraphBuilder) -> None:
        """Rewrite the graph and every graph inside it; `g` collects its nodes."""
        biases = self._take_biases(graph)
        inputs = _Inputs(g)
        for node in graph.node:
            for inner in graphs_in(node):
                self.rewrite(inner, GraphBuilder(g))
            if self._is_product(node):
                self._multiply(g, node, inputs, biases.get(node.output[0], ""))
            elif node.op_type == "Gather" and self._is_large(node.input[0]):
                self._look_up(g, node)
            elif node.op_type == "Gelu":
                g.node("FastGelu", *node.input, name=node.output[0], domain=MICROSOFT)
            else:
                g.nodes.append(node)
        _replace(graph, g.nodes)

    def _is_product(self, node: onnx.NodeProto) -> bool:
        return node.op_type == "MatMul" and node.input[1] in self._chosen

    def _is_large(self, name: str) -> bool:
        table = self._constants.get(name)
        return table is not None and table.ndim == 2 and table.dtype == np.float32 and table.size > TABLE_ELEMENTS

    def _take_biases(self, graph: onnx.GraphProto) -> dict[str, str]:
        """Move biases from the additions that follow products into those products, by the product's output.

        A product with a scale a token keeps its addition, because it is multiplied by that scale before. An addition
        that has nothing left to add goes. A product without a bias takes the correction of its rounding
        (`Int8Weight.correction`) as one, unless it has a scale a token.
        """
        products = {node.output[0]: node for node in graph.node if self._is_product(node)}
        taken, nodes, alone = {}, [], dict(products)
        for node in graph.node:
            product = next((name for name in node.input if name in products), None)
            bias = next((name for name in node.input if name in self._constants), None)
            if node.op_type not in ("Add", "Sum") or product is None or bias is None:
                nodes.append(node)
                continue
            del alone[product]
            matrix = products[product].input[1]
            scheme, weight = self._chosen[matrix]
            sum_of_both = np.asarray(self._constants[bias]) + weight.correction
            # By both names, because products may share a bias: converters keep equal ones once.
            corrected = self.builder.constant(sum_of_both, f"{matrix}.{bias}.corrected")
            others = [name for name in node.input if name != bias]
            if scheme.scale is None:
                node.input[list(node.input).index(bias)] = corrected
            elif len(others) == 1:
                # The product takes over the name of the addition, so that nodes that read the sum need no change.
                products[product].output[0] = node.output[0]
                taken[node.output[0]] = corrected
                continue
            else:
                node.input[:] = others
                taken[product] = corrected
            nodes.append(node)
        _replace(graph, nodes)
        return taken | self._corrections(alone)

    def _corrections(self, products: Mapping[str, onnx.NodeProto]) -> dict[str, str]:
        corrections = {}
        for output, node in products.items():
            scheme, weight = self._chosen[node.input[1]]
            if scheme.scale is not None:
                corrections[output] = self.builder.constant(weight.correction, f"{node.input[1]}.correction")
        return corrections

    def _multiply(self, g: GraphBuilder, node: onnx.NodeProto, inputs: _Inputs, bias: str) -> None:
        x, name = node.input
        scheme, weight = self._chosen[name]
        integers, column = inputs.quantized(x, scheme)
        # The operator has no input for a scale a token: it gets 1 then, and `column` is multiplied in after it.
        operands = (
            integers,
            g.constant(_rounded(self._constants[name], scheme, weight), f"{name}.int8"),
            g.constant(np.float32(1 if scheme.scale is None else scheme.scale)),
            g.constant(weight.scales, f"{name}.scales"),
            g.constant(np.uint8(scheme.zero_point)),
            *(("", bias) if bias else ()),  # no zero point of the weight, whose integers lie evenly around 0
        )
        if scheme.scale is None:
            product = g.node("MatMulIntegerToFloat", *operands, domain=MICROSOFT)
            g.node("Mul", product, column, name=node.output[0])
        else:
            g.node("MatMulIntegerToFloat", *operands, domain=MICROSOFT, name=node.output[0])

    def _look_up(self, g: GraphBuilder, node: onnx.NodeProto) -> None:
        name, index = node.input
        table = self._constants[name]
        integers = LazyArray(table.shape, lambda: _rounded_rows(np.asarray(table)), np.int8)
        scales = LazyArray((table.shape[0], 1), lambda: _row_scales(np.asarray(table)))
        rows = g.cast(g.node("Gather", g.constant(integers, f"{name}.int8"), index), TensorProto.FLOAT)
        row_scales = g.node("Gather", g.constant(scales, f"{name}.scales"), index)
        g.node("Mul", rows, row_scales, name=node.output[0])


def _rounded(weight: Weight, scheme: Scheme, rounding: Int8Weight) -> LazyArray:
    return LazyArray(weight.shape, lambda: to_int8(np.asarray(weight), scheme, rounding.scales), np.int8)


def _row_scales(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """[rows, 1]."""
    largest = np.maximum(table.max(1, keepdims=True), -table.min(1, keepdims=True))
    # `tiny` keeps a row of zeros from being divided by 0.
    return np.asarray(np.maximum(largest / 127, np.finfo(np.float32).tiny), np.float32)


def _rounded_rows(table: NDArray[np.float32]) -> NDArray[np.int8]:
    integers = np.empty(table.shape, np.int8)
    # In blocks, because a table may be the larger part of a model, and none of it is to be copied as floats.
    for begin in range(0, len(table), _BLOCK_ROWS):
        rows = table[begin : begin + _BLOCK_ROWS]
        integers[begin : begin + _BLOCK_ROWS] = np.round(rows / _row_scales(rows))
    return integers


class _Inputs:
    """Inputs of the products of one graph, each rounded once."""

    def __init__(self, g: GraphBuilder) -> None:
        self._g = g
        self._known: dict[str, tuple[str, str]] = {}

    def quantized(self, x: str, scheme: Scheme) -> tuple[str, str]:
        """UINT8 [T, K], and for a scheme with a scale a token those scales as a column [T, 1]."""
        if x not in self._known:
            self._known[x] = self._quantize(x, scheme)
        return self._known[x]

    def _quantize(self, x: str, scheme: Scheme) -> tuple[str, str]:
        g = self._g
        if scheme.smoothing is not None:
            x = g.node("Mul", x, g.constant(1 / scheme.smoothing, f"{x}.smoothing"))
        zero_point = g.constant(np.uint8(scheme.zero_point))
        if scheme.scale is not None:
            return g.node("QuantizeLinear", x, g.constant(np.float32(scheme.scale)), zero_point), ""
        largest = g.node("ReduceMax", g.node("Abs", x) if scheme.is_symmetric else x, g.int64([1]), keepdims=0)
        scales = g.node("Mul", largest, g.constant(np.float32(1 / scheme.reach)))
        scales = g.node("Max", scales, g.constant(np.float32(scheme.floor)))
        # A vector of scales requires one of zero points. Inputs share none, as not all are of the same tokens.
        zero_points = g.node("Expand", zero_point, g.node("Shape", scales))
        return g.node("QuantizeLinear", x, scales, zero_points, axis=0), g.column(scales)


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    # Copies, because some of these nodes are the graph's own, which the next line deletes.
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
