"""The columns that a run adds: their Arrow types and metadata, and conversion of answers to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from conch_contract import Task

from conch_batch.errors import EngineError, InputError
from conch_batch.job import Embedding, Numbers, Reranking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_client import Ranking, SparseVector
    from conch_contract import ModelInfo
    from numpy.typing import NDArray

_TYPES = {
    Numbers.FLOAT32: pa.float32(),
    Numbers.FLOAT16: pa.float16(),
    Numbers.INT8: pa.int8(),
    Numbers.BINARY: pa.uint8(),
}
_COUNTS = [pa.field("tokens", pa.int32()), pa.field("truncated", pa.bool_())]


def added(task: Embedding | Reranking, info: ModelInfo, space_id: str | None) -> pa.Schema:
    """The columns of the answers to a task, with the model in their metadata.

    `vector` (one vector), `vectors` (one per token), `indices` and `values` (a sparse vector) or `ranking` (numbers of
    documents, best first) and `scores`. The metadata state the vector space under `conch.space_id`.

    Raises:
        EngineError: the model has another task, or does not support these options.
    """
    fields = _rankings(info) if isinstance(task, Reranking) else _vectors(task, info)
    return pa.schema(fields, metadata=_metadata(task, info, space_id))


def counted(schema: pa.Schema) -> pa.Schema:
    """Those columns, then `tokens` that were computed for a row, and `truncated`, whether its text lost some."""
    return pa.schema([*schema, *_COUNTS], metadata=schema.metadata)


def with_input(schema: pa.Schema, answers: pa.Schema, prefix: str) -> pa.Schema:
    """Columns of the input, then those of the answers.

    Raises:
        InputError: both have a column of the same name.
    """
    fields = [field.with_name(prefix + field.name) for field in answers]
    taken = [field.name for field in fields if field.name in schema.names]
    if taken:
        raise InputError(f"the input has a column {taken[0]!r} already: prefix the new ones, as with --prefix conch_")
    return pa.schema([*schema, *fields], metadata=answers.metadata)


def vector_array(vectors: NDArray[np.float32], numbers: Numbers) -> pa.FixedSizeListArray:
    """Vectors, float32 [n, dimension], as an Arrow array of lists of the type `numbers`."""
    rounded = _rounded(vectors, numbers)
    return pa.FixedSizeListArray.from_arrays(pa.array(rounded.ravel(), _TYPES[numbers]), rounded.shape[1])


def arrays_of(task: Embedding | Reranking, info: ModelInfo, answers: Sequence[Any]) -> list[pa.Array]:
    """Results of the client as the columns of `added`, without the counts."""
    if isinstance(task, Reranking):
        return _ranking_arrays(answers)
    if info.task is Task.SPARSE:
        return _sparse_arrays(answers)
    if info.task is Task.EMBEDDING:
        return [vector_array(np.asarray(answers), task.numbers)]
    vectors = vector_array(np.concatenate(answers), task.numbers)
    return [pa.ListArray.from_arrays(_offsets(list(map(len, answers))), vectors)]


def counts(tokens: NDArray[np.int64], truncated: Sequence[int]) -> list[pa.Array]:
    """The columns `tokens`, from int64 [n], and `truncated`, from the numbers of the rows that lost tokens."""
    lost = np.zeros(len(tokens), np.bool_)
    lost[list(truncated)] = True
    return [pa.array(tokens, pa.int32()), pa.array(lost)]


def _sparse_arrays(rows: Sequence[SparseVector]) -> list[pa.Array]:
    offsets = _offsets([len(row.indices) for row in rows])
    indices = np.concatenate([row.indices for row in rows]).astype(np.int32)
    values = np.concatenate([row.values for row in rows]).astype(np.float32)
    return [pa.ListArray.from_arrays(offsets, each) for each in (indices, values)]


def _ranking_arrays(rows: Sequence[Ranking]) -> list[pa.Array]:
    rankings = [[ranked.index for ranked in row] for row in rows]
    scores = [[ranked.score for ranked in row] for row in rows]
    return [pa.array(rankings, pa.list_(pa.int32())), pa.array(scores, pa.list_(pa.float32()))]


def _rounded(vectors: NDArray[Any], numbers: Numbers) -> NDArray[Any]:
    if numbers is Numbers.BINARY:
        return np.packbits(vectors >= 0, axis=1)
    if numbers is Numbers.INT8:
        return np.asarray(np.clip(np.rint(127.0 * vectors), -127, 127), np.int8)
    return vectors.astype(str(numbers), copy=False)


def _offsets(lengths: Sequence[int]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())


def _vectors(task: Embedding, info: ModelInfo) -> list[pa.Field]:
    if info.task is Task.SPARSE:
        _refuse_dense_options(task, info)
        return [pa.field("indices", pa.list_(pa.int32())), pa.field("values", pa.list_(pa.float32()))]
    if info.task not in {Task.EMBEDDING, Task.MULTI_VECTOR} or info.dimension is None:
        raise EngineError(f"{info.name} ({info.task}) does not embed texts; `conch models` lists models that do")
    length = task.dimensions or info.dimension
    if task.numbers is Numbers.BINARY and length % 8:
        raise EngineError(
            f"binary vectors need a multiple of 8 numbers, and {info.name} has {length}: add --dimensions"
        )
    if task.numbers is Numbers.INT8 and not task.normalize:
        raise EngineError("int8 is for vectors of length 1: leave out --no-normalize")
    vector = pa.list_(_TYPES[task.numbers], length // 8 if task.numbers is Numbers.BINARY else length)
    if info.task is Task.EMBEDDING:
        return [pa.field("vector", vector)]
    if task.dimensions is not None:
        raise EngineError(f"{info.name} gives one vector for each token, which are not cut: leave out --dimensions")
    return [pa.field("vectors", pa.list_(vector))]


def _refuse_dense_options(task: Embedding, info: ModelInfo) -> None:
    if task.dimensions is not None or task.numbers is not Numbers.FLOAT32 or not task.normalize:
        raise EngineError(f"{info.name} gives sparse vectors: leave out --dimensions, --numbers and --no-normalize")


def _rankings(info: ModelInfo) -> list[pa.Field]:
    if info.task not in {Task.CROSS_ENCODER, Task.LATE_INTERACTION}:
        raise EngineError(f"{info.name} ({info.task}) ranks no documents; `conch models` lists rerankers")
    return [pa.field("ranking", pa.list_(pa.int32())), pa.field("scores", pa.list_(pa.float32()))]


def _metadata(task: Embedding | Reranking, info: ModelInfo, space_id: str | None) -> dict[str, str]:
    stated = {
        "model": info.name,
        "task": str(info.task),
        "precision": info.precision,
        "source": info.source,
        "revision": info.revision,
        "weights_sha256": info.weights_sha256,
    }
    if isinstance(task, Embedding):
        stated |= {"space_id": space_id or "", "dimensions": str(task.dimensions or info.dimension)}
        stated |= {} if info.task is Task.SPARSE else {"numbers": str(task.numbers)}
    return {f"conch.{key}": value for key, value in stated.items() if value}
