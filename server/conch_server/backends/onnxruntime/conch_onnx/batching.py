"""Several requests become one set of tensors for the graph, and its outputs become every request's own.

Ragged inputs are flattened and joined without a pad; `batch_input` gives the graph the shapes that they lose, in the
kinds that Triton documents ("Ragged Batching"), whose element counts include the batch axis. Triton's own
BATCH_SCATTER does not check bounds: a flat output one row short reads past the buffer. Here every size must fit
exactly, or no request gets anything.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from .contract import TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

    from .contract import Contract, Output

    Tensors = Mapping[str, NDArray[Any]]
    Shapes = Sequence[tuple[int, ...]]


class GraphError(RuntimeError):
    """The graph's outputs do not fit the requests they were computed for."""


def merge(contract: Contract, requests: Sequence[Tensors]) -> dict[str, NDArray[Any]]:
    """Return the tensors of all `requests`, in their order, as the graph takes them; one request is never copied."""
    feed = {}
    for declared in contract.inputs:
        tensors = [request[declared.name] for request in requests]
        if declared.ragged:
            tensors = [tensor.reshape(-1) for tensor in tensors]
        feed[declared.name] = tensors[0] if len(tensors) == 1 else np.concatenate(tensors)
    for made in contract.batch_inputs:
        shapes = [request[made.source].shape for request in requests]
        if not contract.batched:
            shapes = [(1, *shape) for shape in shapes]
        feed[made.name] = BATCH_INPUTS[made.kind](shapes, TYPES[made.data_type][0])
    return feed


def split(contract: Contract, requests: Sequence[Tensors], results: Tensors) -> list[dict[str, NDArray[Any]]]:
    """Cut the `results` of the merged `requests` into views, one set of outputs per request; raise GraphError."""
    answers: list[dict[str, NDArray[Any]]] = [{} for _ in requests]
    for output in (declared for declared in contract.outputs if declared.name in results):
        result = results[output.name]
        if output.source is not None:
            sources = [request[output.source].shape for request in requests]
            parts = _scattered(output, sources, result, batched=contract.batched)
        elif contract.batched:
            parts = _rows(output, [request[contract.inputs[0].name].shape[0] for request in requests], result)
        else:
            parts = [result]
        for answer, part in zip(answers, parts, strict=True):
            answer[output.name] = part
    return answers


def _scattered(output: Output, sources: Shapes, result: NDArray[Any], *, batched: bool) -> list[NDArray[Any]]:
    """Cut a flat result by Triton's rule: an open axis has the length of that axis of the source input."""
    declared = (-1, *output.dims) if batched else output.dims
    shapes = [[source[axis] if length == -1 else length for axis, length in enumerate(declared)] for source in sources]
    flat = result.reshape(-1)
    bounds = [0, *accumulate(prod(shape) for shape in shapes)]
    if bounds[-1] != flat.size:
        raise GraphError(f"output '{output.name}' has {flat.size} elements where the requests need {bounds[-1]}")
    return [flat[begin:end].reshape(shape) for (begin, end), shape in zip(pairwise(bounds), shapes, strict=True)]


def _rows(output: Output, counts: list[int], result: NDArray[Any]) -> list[NDArray[Any]]:
    bounds = [0, *accumulate(counts)]
    if result.ndim == 0 or result.shape[0] != bounds[-1]:
        raise GraphError(
            f"output '{output.name}' has shape {list(result.shape)} where the requests have {bounds[-1]} rows"
        )
    return [result[begin:end] for begin, end in pairwise(bounds)]


def _element_count(shapes: Shapes, dtype: DTypeLike) -> NDArray[Any]:
    return np.array([prod(shape) for shape in shapes], dtype)


def _accumulated(shapes: Shapes, dtype: DTypeLike) -> NDArray[Any]:
    return np.cumsum(_element_count(shapes, dtype), dtype=dtype)


def _accumulated_with_zero(shapes: Shapes, dtype: DTypeLike) -> NDArray[Any]:
    return np.concatenate((np.zeros(1, dtype), _accumulated(shapes, dtype)))


def _max_as_shape(shapes: Shapes, dtype: DTypeLike) -> NDArray[Any]:
    # In this kind the length is the value, and the elements have no meaning.
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
