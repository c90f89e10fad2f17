"""What the graph answered becomes every request's own outputs, as views.

Triton's own BATCH_SCATTER does not check bounds: a flat output one row short reads past the buffer. Here every size
must fit exactly, or no request gets anything.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from .contract import Contract, Output

    Tensors = Mapping[str, NDArray[Any]]


class GraphError(RuntimeError):
    """The graph's outputs do not fit the requests they were computed for."""


def split(contract: Contract, requests: Sequence[Tensors], results: Tensors) -> list[dict[str, NDArray[Any]]]:
    """Cut the `results` of the merged `requests` into one set of outputs per request; raises GraphError."""
    answers: list[dict[str, NDArray[Any]]] = [{} for _ in requests]
    for output in contract.outputs:
        result = results.get(output.name)
        if result is None:
            continue
        if output.source is not None:
            parts = _scattered(
                output, [request[output.source].shape for request in requests], result, batched=contract.batched
            )
        elif contract.batched:
            parts = _rows(output, [request[contract.inputs[0].name].shape[0] for request in requests], result)
        else:
            parts = [result]
        for answer, part in zip(answers, parts, strict=True):
            answer[output.name] = part
    return answers


def scattered_shape(output: Output, source: tuple[int, ...], *, batched: bool) -> tuple[int, ...]:
    """Triton's rule: an open axis of the output takes the length of the same axis of the source input."""
    declared = (-1, *output.dims) if batched else output.dims
    return tuple(source[axis] if length == -1 else length for axis, length in enumerate(declared))


def _scattered(
    output: Output, sources: list[tuple[int, ...]], result: NDArray[Any], *, batched: bool
) -> list[NDArray[Any]]:
    shapes = [scattered_shape(output, source, batched=batched) for source in sources]
    flat, parts, begin = result.reshape(-1), [], 0
    for shape in shapes:
        end = begin + prod(shape)
        parts.append(flat[begin:end])
        begin = end
    if begin != flat.size:
        raise GraphError(f"output '{output.name}' has {flat.size} elements where the requests need {begin}")
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _rows(output: Output, counts: list[int], result: NDArray[Any]) -> list[NDArray[Any]]:
    if result.ndim == 0 or result.shape[0] != sum(counts):
        raise GraphError(
            f"output '{output.name}' has shape {list(result.shape)} where the requests have {sum(counts)} rows"
        )
    parts, begin = [], 0
    for count in counts:
        parts.append(result[begin : begin + count])
        begin += count
    return parts
