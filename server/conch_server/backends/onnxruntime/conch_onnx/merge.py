"""Several requests become one set of tensors for the graph.

Ragged inputs are flattened and joined without a pad; the shapes they lose are given to the graph by `batch_input`, in
the kinds that Triton documents ("Ragged Batching"), whose element counts include the batch axis.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from .contract import TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

    from .contract import Contract, Input

    Tensors = Mapping[str, NDArray[Any]]
    Shapes = Sequence[tuple[int, ...]]


def merge(contract: Contract, requests: Sequence[Tensors]) -> dict[str, NDArray[Any]]:
    """Tensors of all `requests`, in their order, as the graph takes them; one request is never copied."""
    feed = {
        declared.name: _joined(declared, [request[declared.name] for request in requests])
        for declared in contract.inputs
    }
    for made in contract.batch_inputs:
        shapes = [request[made.source].shape for request in requests]
        if not contract.batched:
            shapes = [(1, *shape) for shape in shapes]
        feed[made.name] = BATCH_INPUTS[made.kind](shapes, TYPES[made.data_type][0])
    return feed


def _joined(declared: Input, tensors: list[NDArray[Any]]) -> NDArray[Any]:
    if declared.ragged:
        tensors = [tensor.reshape(-1) for tensor in tensors]
    return tensors[0] if len(tensors) == 1 else np.concatenate(tensors)


def _element_count(shapes: Shapes, dtype: DTypeLike) -> NDArray[Any]:
    return np.array([prod(shape) for shape in shapes], dtype)


def _accumulated(shapes: Shapes, dtype: DTypeLike) -> NDArray[Any]:
    return np.cumsum(_element_count(shapes, dtype), dtype=dtype)


def _accumulated_with_zero(shapes: Shapes, dtype: DTypeLike) -> NDArray[Any]:
    return np.concatenate((np.zeros(1, dtype), _accumulated(shapes, dtype)))


def _max_as_shape(shapes: Shapes, dtype: DTypeLike) -> NDArray[Any]:
    return np.zeros(max(prod(shape) for shape in shapes), dtype)


def _item_shape(shapes: Shapes, dtype: DTypeLike) -> NDArray[Any]:
    items = np.array([shape[1:] for shape in shapes], dtype)
    return np.repeat(items, [shape[0] for shape in shapes], axis=0)


def _item_shape_flat(shapes: Shapes, dtype: DTypeLike) -> NDArray[Any]:
    return _item_shape(shapes, dtype).reshape(-1)


BATCH_INPUTS: dict[str, Callable[[Shapes, DTypeLike], NDArray[Any]]] = {
    "BATCH_ELEMENT_COUNT": _element_count,
    "BATCH_ACCUMULATED_ELEMENT_COUNT": _accumulated,
    "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO": _accumulated_with_zero,
    "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE": _max_as_shape,
    "BATCH_ITEM_SHAPE": _item_shape,
    "BATCH_ITEM_SHAPE_FLATTEN": _item_shape_flat,
}
