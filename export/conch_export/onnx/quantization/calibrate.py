"""Calibration: the inputs of a graph's products on real sentences, and the scheme that each product gets by them.

The graph runs a stretch of its nodes at a time, on all sentences, before the next stretch is read: neither all weights
nor the inputs of all products are ever in memory, only what later nodes read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from conch_export.onnx.builder import reads
from conch_export.onnx.graph import Graph
from conch_export.onnx.layout import IDS
from conch_export.onnx.quantization.schemes import Samples, choose
from conch_export.progress import counted, silent
from conch_export.scratch import temporary_folder, temporary_writes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from conch_export.onnx.quantization.schemes import Int8Weight, Scheme
    from conch_export.progress import Progress

    Values = dict[str, NDArray[Any]]

_SAMPLES = 1024
"""About how many tokens of each product's input are kept; the ranges of its channels are those of all tokens."""
_INPUTS_AT_A_TIME = 4
"""Inputs of products that are observed at a time: those of a layer, of which the last is the first of the next layer.
The first stretch ends with the first of them: between layers there is less to keep than within them."""


def calibrate(
    graph: Graph, feeds: Iterable[Mapping[str, NDArray[Any]]], *, per_token: bool = True, progress: Progress = silent
) -> dict[str, tuple[Scheme, Int8Weight]]:
    """Choose how every product of tokens with a constant matrix is rounded, by the name of the matrix.

    Args:
        graph: its products are not inside loops.
        feeds: inputs of the graph, and `input_ids`, one for each token, whether the graph reads them or not; about a
            thousand tokens or more in all.
        per_token: whether a scale a token may be chosen; it needs products of [tokens, K] matrices.
        progress: told how many inputs of products are done.
    """
    constants = graph.constants()
    chosen: dict[str, tuple[Scheme, Int8Weight]] = {}
    groups = _groups(graph, {name for name, weight in constants.items() if weight.ndim == 2})
    for x, samples in counted(progress, "calibrating", _observe(graph, set(groups), feeds), len(groups)):
        if (joined := groups[x].observe(samples)) is not None:
            matrices = {name: np.asarray(constants[name]) for name in groups[x].matrices}
            scheme, weights = choose(joined, matrices, per_token=per_token)
            chosen.update({name: (scheme, weight) for name, weight in weights.items()})
    return chosen


@dataclass
class _Group:
    """Products that share a scheme: an input is rounded once for all its matrices, a matrix once for all its inputs.

    Attributes:
        inputs: of the products, more than one where layers share a matrix.
        matrices: by which they are multiplied.
    """

    inputs: list[str]
    matrices: list[str]
    _seen: list[Samples] = field(default_factory=list)

    def observe(self, samples: Samples) -> Samples | None:
        """Take the samples of one of the inputs; returns those of all inputs, and None before the last has come."""
        # As many in all as of one input: neither time nor memory grows with the layers that share a matrix.
        self._seen.append(Samples(samples.tokens[:: len(self.inputs)].copy(), samples.low, samples.high))
        return _joined(self._seen) if len(self._seen) == len(self.inputs) else None


def _groups(graph: Graph, matrices: set[str]) -> dict[str, _Group]:
    """The group of every input of products with these matrices."""
    groups: dict[str, _Group] = {}
    of_matrix: dict[str, _Group] = {}
    for node in graph.model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in matrices:
            continue
        x, matrix = node.input
        group, other = groups.get(x) or _Group([x], []), of_matrix.get(matrix) or _Group([], [matrix])
        if group is not other:
            group.inputs += other.inputs
            group.matrices += other.matrices
        groups.update(dict.fromkeys(group.inputs, group))
        of_matrix.update(dict.fromkeys(group.matrices, group))
    return groups


def _observe(
    graph: Graph, names: set[str], feeds: Iterable[Mapping[str, NDArray[Any]]]
) -> Iterator[tuple[str, Samples]]:
    """Samples of these tensors, in the order in which they are computed."""
    known: list[Values] = [dict(feed) for feed in feeds]
    sizes = [int(values[IDS].size) for values in known]
    stride = max(1, sum(sizes) // _SAMPLES)
    # The stride goes on across feeds; else the first token of every text would be a sample.
    offsets = [-sum(sizes[:index]) % stride for index in range(len(sizes))]
    nodes, count = _until_last(list(graph.model.graph.node), names), 1
    while nodes:
        stretch, nodes = _cut(nodes, names, count)
        count, needed = _INPUTS_AT_A_TIME, set().union(*map(reads, nodes))
        seen: dict[str, list[Samples]] = {}
        for index, found in enumerate(_run(graph, stretch, names | needed, known)):
            for name in found.keys() & names:
                seen.setdefault(name, []).append(_samples(found[name], slice(offsets[index], None, stride)))
            known[index] = {name: value for name, value in (known[index] | found).items() if name in needed}
        for name, each in sorted(seen.items()):
            yield name, _joined(each)


def _until_last(nodes: list[onnx.NodeProto], names: set[str]) -> list[onnx.NodeProto]:
    """Without the nodes after which none of the tensors is computed."""
    while nodes and not names.intersection(nodes[-1].output):
        nodes = nodes[:-1]
    return nodes


def _cut(nodes: list[onnx.NodeProto], names: set[str], count: int) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """The nodes up to those that compute the next `count` of the tensors, and the rest."""
    computed = 0
    for index, node in enumerate(nodes, 1):
        computed += len(names.intersection(node.output))
        if computed >= count:
            return nodes[:index], nodes[index:]
    return nodes, []


def _run(graph: Graph, nodes: list[onnx.NodeProto], wanted: set[str], known: list[Values]) -> Iterator[Values]:
    """Yield the wanted tensors that the nodes compute, for each of several sets of tensors that are known."""
    made = {name for node in nodes for name in node.output}
    read = set().union(*map(reads, nodes))
    inputs, outputs = sorted(read & known[0].keys()), sorted(made & wanted)
    with temporary_folder() as scratch:
        with temporary_writes(scratch):
            path = _part(graph, nodes, {name: known[0][name] for name in inputs}, outputs).save(scratch)
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        for values in known:
            results = session.run(outputs, {name: values[name] for name in inputs})
            yield dict(zip(outputs, map(np.asarray, results), strict=True))


def _part(graph: Graph, nodes: list[onnx.NodeProto], inputs: Values, outputs: list[str]) -> Graph:
    """Some of a graph's nodes as a graph of their own, whose inputs are of the types and ranks of these values."""
    read, model = set().union(*map(reads, nodes)), graph.model
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)
        for name, value in inputs.items()
    ]
    part = helper.make_graph(
        nodes,
        "part",
        infos,
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    opsets, functions = model.opset_import, model.functions
    whole = helper.make_model(part, opset_imports=opsets, functions=functions, ir_version=model.ir_version)
    return Graph(whole, {name: weight for name, weight in graph.weights.items() if name in read})


def _samples(values: NDArray[np.float32], picked: slice) -> Samples:
    tokens = values.reshape(-1, values.shape[-1])
    # Ranges are taken of all tokens and not of samples, because what lies outside of them is clipped. The samples are
    # copied, because a view would keep all tokens in memory.
    return Samples(tokens[picked].copy(), tokens.min(0), tokens.max(0))


def _joined(parts: list[Samples]) -> Samples:
    tokens = np.concatenate([part.tokens for part in parts])
    return Samples(tokens, np.min([part.low for part in parts], axis=0), np.max([part.high for part in parts], axis=0))
