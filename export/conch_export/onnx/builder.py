"""Writing ONNX graphs by hand, readably. Hides node naming, constants and sub-graph plumbing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Tensor = tuple[str, int, Sequence[int | str]]
    """Name, element type (`onnx.TensorProto.INT64`, ...) and shape of an input or output."""

ONNX_OPSET = 18
"""Old enough for the onnxruntime of every supported Triton release; the first whose ReduceMax and ReduceMean take axes
as an input, and whose ScatterElements knows `max`."""
IR_VERSION = 10
WEIGHT_BYTES = 1 << 16
"""Constants of this size are weights; a smaller one is not worth the pages that a mapping takes."""
MICROSOFT = "com.microsoft"
"""Domain of onnxruntime's contributed operators."""


@runtime_checkable
class Weight(Protocol):
    """Numbers that `numpy.asarray` reads: an array, or a `model.arrays.LazyArray`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers along each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a number."""

    @property
    def ndim(self) -> int:
        """Number of axes."""

    @property
    def size(self) -> int:
        """Number of numbers."""

    @property
    def nbytes(self) -> int:
        """Bytes of all numbers."""


class GraphBuilder:
    """Collects nodes and constants; every method that adds a node returns the name of its output.

    A sub-graph (see `for_each`) is a builder with a parent: its nodes are its own, its constants live in the outermost
    graph, where onnxruntime packs them once.

    Args:
        parent: the builder of the enclosing graph.
        prefix: begins every generated name, for a builder that adds to an existing graph.
    """

    def __init__(self, parent: GraphBuilder | None = None, prefix: str = "") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._root: GraphBuilder = parent._root if parent else self
        if parent is None:
            self.constants: dict[str, onnx.TensorProto] = {}
            self.weights: dict[str, Weight] = {}
            self._count = 0
            self._prefix = prefix

    def _fresh(self, stem: str) -> str:
        self._root._count += 1
        return f"{self._root._prefix}{stem}_{self._root._count}"

    def constant(self, value: ArrayLike | Weight, name: str | None = None, dtype: Any = None) -> str:
        """A constant; equal names mean the same constant, unnamed scalars and small vectors are shared by value.

        One of `WEIGHT_BYTES` is a weight of the graph, and is read when that is written.
        """
        array = value if isinstance(value, Weight) and dtype is None else np.asarray(value, dtype)
        if array.nbytes >= WEIGHT_BYTES and name is not None:
            if name not in self._root.constants:
                self._root.constants[name], self._root.weights[name] = _without_numbers(name, array), array
            return name
        array = np.asarray(array)
        if name is None:
            # The number of dimensions is in the name, because 1 and [1] look the same otherwise.
            name = f"{self._root._prefix}{array.dtype}_{'x'.join(map(str, array.ravel().tolist()))}_{array.ndim}d"
        if name not in self._root.constants:
            # `ascontiguousarray` makes a vector of a scalar; the reshape takes that back.
            self._root.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name

    def shared(self, stem: str, value: NDArray[Any] | Weight) -> str:
        """A constant that is named by its content, so that all who add the same share it."""
        content = np.ascontiguousarray(value)
        return self.constant(value, f"{stem}.{hashlib.sha256(content.tobytes()).hexdigest()[:8]}")

    def adopt(self, constants: Sequence[onnx.TensorProto], weights: Mapping[str, Weight]) -> None:
        """Take over the constants of another graph, under their names, and those of them that are weights."""
        self._root.constants.update({tensor.name: tensor for tensor in constants})
        self._root.weights.update(weights)

    def node(self, op: str, *inputs: str, name: str | None = None, domain: str = "", **attributes: Any) -> str:
        """One node with one output, called `name` if given."""
        output = name or self._fresh(op)
        self.nodes.append(helper.make_node(op, list(inputs), [output], output, domain=domain, **attributes))
        return output

    def nodes_of(self, op: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """One node with several outputs."""
        names = [self._fresh(op) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, names[0], **attributes))
        return names

    def int64(self, value: ArrayLike) -> str:
        """An INT64 constant."""
        return self.constant(value, dtype=np.int64)

    def cast(self, x: str, to: int) -> str:
        """`x` as another element type (`onnx.TensorProto.INT64`, ...)."""
        return self.node("Cast", x, to=to)

    def size(self, x: str) -> str:
        """The length of the vector `x`, as a scalar."""
        return self.node("Squeeze", self.node("Shape", x))

    def arange(self, count: str) -> str:
        """0, 1, ..., count - 1."""
        return self.node("Range", self.int64(0), count, self.int64(1))

    def column(self, x: str) -> str:
        """[n] as [n, 1]."""
        return self.node("Unsqueeze", x, self.int64([1]))

    def line(self, x: str) -> str:
        """[...] as [1, ...]."""
        return self.node("Unsqueeze", x, self.int64([0]))

    def cumsum(self, x: str) -> str:
        """Running sum, the element itself included."""
        return self.node("CumSum", x, self.int64(0))

    def slice(self, x: str, begin: str, end: str, axis: int = 0) -> str:
        """Elements begin .. end - 1 of `x` along an axis; begin and end are of shape [1] and may exceed it."""
        return self.node("Slice", x, begin, end, self.int64([axis]))

    def for_each(self, count: str, body: Callable[[GraphBuilder, str], str], *, ragged: bool) -> str:
        """Run `body(builder, i)` for i = 0 .. count - 1 and join its FP32 results.

        Args:
            count: scalar INT64, the number of runs.
            body: adds the nodes of one run to the builder it is given; may use any name of the outer graph.
            ragged: True: results [n_i, ...] of any n_i are concatenated along the first axis (count must not be 0).
                False: results of equal shape are stacked along a new first axis.
        """
        inner, element = GraphBuilder(self), TensorProto.FLOAT
        index, condition = self._fresh("i"), self._fresh("condition")
        result = body(inner, index)
        keep_on = inner.node("Identity", condition)
        inputs = [
            helper.make_tensor_value_info(index, TensorProto.INT64, []),
            helper.make_tensor_value_info(condition, TensorProto.BOOL, []),
        ]
        outputs = [helper.make_tensor_value_info(keep_on, TensorProto.BOOL, [])]
        true = self.constant(np.True_)
        if not ragged:
            outputs.append(helper.make_tensor_value_info(result, element, None))
            return self.node("Loop", count, true, body=helper.make_graph(inner.nodes, index, inputs, outputs))
        # A Loop can only stack equal shapes; pieces of different lengths have to be collected in a sequence.
        collected, longer = self._fresh("collected"), self._fresh("longer")
        inner.nodes.append(helper.make_node("SequenceInsert", [collected, result], [longer], longer))
        inputs.append(helper.make_tensor_sequence_value_info(collected, element, None))
        outputs.append(helper.make_tensor_sequence_value_info(longer, element, None))
        empty = self.node("SequenceEmpty", dtype=element)
        sequence = self.node("Loop", count, true, empty, body=helper.make_graph(inner.nodes, index, inputs, outputs))
        # It fails on an empty sequence, which is why the count must not be 0.
        return self.node("ConcatFromSequence", sequence, axis=0)

    def for_each_tile(
        self, count: str, size: int, body: Callable[[GraphBuilder, str, str], str], *, ragged: bool
    ) -> str:
        """Run `body(builder, begin, end)` on tiles of 0 .. count - 1, see `for_each`; all but size are of shape [1]."""
        tiles = self.node("Div", self.node("Add", count, self.int64([size - 1])), self.int64([size]))

        def one_tile(inner: GraphBuilder, index: str) -> str:
            begin = inner.node("Mul", inner.line(index), inner.int64([size]))
            return body(inner, begin, inner.node("Min", inner.node("Add", begin, inner.int64([size])), count))

        return self.for_each(self.node("Squeeze", tiles), one_tile, ragged=ragged)

    def choose(
        self,
        condition: str,
        then: Callable[[GraphBuilder], Sequence[str]],
        otherwise: Callable[[GraphBuilder], Sequence[str]],
        elements: Sequence[int],
    ) -> list[str]:
        """Run one of two bodies, by the boolean `condition`; both return results of these element types, any shape."""
        branches = {}
        for name, body in (("then_branch", then), ("else_branch", otherwise)):
            inner = GraphBuilder(self)
            results = zip(body(inner), elements, strict=True)
            outputs = [helper.make_tensor_value_info(result, element, None) for result, element in results]
            branches[name] = helper.make_graph(inner.nodes, outputs[0].name, [], outputs)
        return self.nodes_of("If", condition, outputs=len(elements), **branches)

    def model(self, name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> onnx.ModelProto:
        """The finished graph without its weights, and without nodes that nothing uses; see `graph.Graph`."""
        graph = helper.make_graph(
            _used(self.nodes, {name for name, _, _ in outputs}),
            name,
            [helper.make_tensor_value_info(*x) for x in inputs],
            [helper.make_tensor_value_info(*x) for x in outputs],
            list(self.constants.values()),
        )
        opsets = [helper.make_opsetid("", ONNX_OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, producer_name="conch", opset_imports=opsets, ir_version=IR_VERSION)


def _without_numbers(name: str, weight: Weight) -> TensorProto:
    kind = helper.np_dtype_to_tensor_dtype(weight.dtype)
    return TensorProto(name=name, data_type=kind, dims=weight.shape, data_location=TensorProto.EXTERNAL)


def _used(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    kept = []
    # Backwards, because a node is wanted only if one that comes after it is.
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted |= reads(node)
    return kept[::-1]


def graphs_in(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside a node: the body of a loop, or the branches of a condition."""
    return (attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH)


def reads(node: onnx.NodeProto) -> set[str]:
    """Names the node reads, those of the graphs inside it included."""
    return set(node.input).union(*(reads(child) for graph in graphs_in(node) for child in graph.node))
