"""Tensors on the wire: KServe v2 messages from matrices and back.

The messages are built directly: tritonclient's InferInput copies everything once more, which takes three times as long
(19 against 6 microseconds for a short text).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from conch_contract import Task
from tritonclient.grpc import service_pb2 as pb

from conch_client._errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from conch_contract import ModelInfo
    from numpy.typing import NDArray

    from conch_client._tokenization.rows import Matrix

_DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "FP32": np.dtype("<f4"),
    "INT32": np.dtype("<i4"),
    "UINT8": np.dtype("u1"),
}

_DENSE = {Task.EMBEDDING, Task.MULTI_VECTOR, Task.LATE_CHUNKING}
_RANGE = "range"  # of the bytes of a file


def infer_request(
    model: str, inputs: Iterable[str], matrix: Matrix, **others: NDArray[np.int64]
) -> pb.ModelInferRequest:
    """The request that runs a Triton model over a matrix and other tensors, with those that are its ``inputs``."""
    tensors = {**matrix._asdict(), **others}
    return _request(model, {name: tensors[name] for name in inputs})


def range_request(file_model: str, begin: int, end: int) -> pb.ModelInferRequest:
    """The request for bytes ``begin`` to ``end`` of a file that Triton serves as a model."""
    return _request(file_model, {_RANGE: np.array([begin, end], np.int64)})


def _request(model: str, tensors: Mapping[str, NDArray[np.int64]]) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(
        model_name=model,
        inputs=[
            pb.ModelInferRequest.InferInputTensor(name=name, datatype="INT64", shape=tensor.shape)
            for name, tensor in tensors.items()
        ],
        # The wire is little-endian, as nearly every machine is: there nothing is copied before `tobytes`.
        raw_input_contents=[tensor.astype("<i8", copy=False).tobytes() for tensor in tensors.values()],
    )


def read_output(
    response: pb.ModelInferResponse, name: str, shape: tuple[int | None, ...] | None = None
) -> NDArray[np.generic]:
    """The output of that name, read-only.

    Args:
        response: The server's answer.
        name: Output to read.
        shape: The shape it must have, with None for an axis of any length; None for any shape.

    Raises:
        ServerError: The output is missing, or has another type or shape.
    """
    for output, content in zip(response.outputs, response.raw_output_contents, strict=False):
        if output.name == name and output.datatype in _DTYPES and _fits(tuple(output.shape), shape):
            # A view of the message: vectors are copied once only, by whoever puts them in place.
            return np.frombuffer(content, _DTYPES[output.datatype]).reshape(tuple(output.shape))
    got = ", ".join(f"{output.name} {output.datatype} {list(output.shape)}" for output in response.outputs) or "nothing"
    wanted = name if shape is None else f"{name} {list(shape)}"
    raise ServerError(f"{response.model_name} answered {got} instead of {wanted}; was it just replaced?")


def check_answer(info: ModelInfo, request: pb.ModelInferRequest, response: pb.ModelInferResponse) -> None:
    """Raises ServerError for an answer that no server with that model gives.

    It has a row for each that was sent, as many bytes as it says, and vectors of the model's length.
    """
    if request.inputs[0].name == _RANGE:
        return
    rows, contents = request.inputs[0].shape[0], response.raw_output_contents
    length = info.dimension if info.task in _DENSE else None
    for output, content in zip(response.outputs, contents, strict=False):
        shape, dtype = tuple(output.shape), _DTYPES.get(output.datatype)
        fits = dtype is not None and len(content) == math.prod(shape) * dtype.itemsize
        if not fits or shape[:1] != (rows,) or length not in {None, shape[-1]}:
            raise ServerError(
                f"{request.model_name} answered {output.name} {list(shape)} with {len(content)} bytes for {rows} rows"
            )
    if not response.outputs or len(contents) != len(response.outputs):
        raise ServerError(f"{request.model_name} answered {len(contents)} of {len(response.outputs)} tensors")


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...] | None) -> bool:
    if wanted is None:
        return True
    return len(shape) == len(wanted) and all(
        length in {None, given} for given, length in zip(shape, wanted, strict=True)
    )


def index_of(statistics: pb.ModelStatisticsResponse) -> pb.RepositoryIndexResponse:
    """A repository index of the loaded models only, for servers that restrict access to theirs."""
    entry = pb.RepositoryIndexResponse.ModelIndex
    names = {model.name for model in statistics.model_stats}
    return pb.RepositoryIndexResponse(models=[entry(name=name, state="READY") for name in names])
