"""Running a graph on real sentences to see what its matrix products are fed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from conch_export.onnx.quantization.schemes import Samples, choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from conch_export.onnx.quantization.schemes import Int8Weight, Scheme

_SAMPLES = 1024


def calibrate(
    model: onnx.ModelProto, feeds: Iterable[Mapping[str, NDArray[Any]]], *, per_token: bool = True
) -> dict[str, tuple[Scheme, Int8Weight]]:
    """Choose how every product of tokens with a constant matrix is rounded, by the name of the matrix.

    Args:
        model: a graph whose products are not inside loops.
        feeds: inputs of the graph, the first with a number for each token; about a thousand tokens or more in all.
        per_token: whether a scale a token may be chosen; it needs products of [tokens, K] matrices.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    products: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and len(getattr(constants.get(node.input[1]), "dims", ())) == 2:
            products.setdefault(node.input[0], []).append(node.input[1])
    seen = _observe(model, list(products), feeds)
    chosen = {}
    for x, names in products.items():
        matrices = {name: numpy_helper.to_array(constants[name]) for name in names}
        scheme, weights = choose(seen.pop(x), matrices, per_token=per_token)
        chosen.update({name: (scheme, weight) for name, weight in weights.items()})
    return chosen


def _observe(
    model: onnx.ModelProto, names: list[str], feeds: Iterable[Mapping[str, NDArray[Any]]]
) -> dict[str, Samples]:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    seen: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    bounds: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    feeds = list(feeds)
    stride = max(1, sum(map(_tokens, feeds)) // _SAMPLES)
    offset = 0
    for feed in feeds:
        for name, output in zip(names, session.run(names, dict(feed)), strict=True):
            values = output.reshape(-1, output.shape[-1])
            seen[name].append(values[offset::stride].copy())
            bounds[name] += [values.min(0), values.max(0)]
        offset = (offset - _tokens(feed)) % stride
    return {
        name: Samples(np.concatenate(seen[name]), np.min(bounds[name], axis=0), np.max(bounds[name], axis=0))
        for name in names
    }


def _tokens(feed: Mapping[str, NDArray[Any]]) -> int:
    return int(next(iter(feed.values())).size)
