"""Running exported graphs in process, fed as Triton feeds them. Used by verification and benchmarks, not by serving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from conch_export.model.description import Target
from conch_export.onnx.layout import (
    CHUNK_ENDS,
    EMBEDDINGS,
    IDS,
    MASK,
    REQUEST_ELEMENTS,
    TYPES,
    head_lengths,
    lengths_name,
    row_lengths,
)

_PROVIDERS = {Target.CPU: "CPUExecutionProvider", Target.CUDA: "CUDAExecutionProvider"}

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Row:
    """The tokens of one text, or of a pair for a cross-encoder.

    Attributes:
        ids: token ids, special tokens included.
        types: segment of every token.
        masked: how many tokens at its end no other attends to.
        chunk_ends: one past the last token of each of its chunks, where it has some.
        prompt: how many tokens at its beginning are not pooled.
    """

    ids: list[int]
    types: list[int]
    masked: int = 0
    chunk_ends: tuple[int, ...] = ()
    prompt: int = 0


class EncoderGraph:
    """An encoder.

    Args:
        path: of its graph.
        threads: onnxruntime's threads inside one operator.
        target: what it runs on.
    """

    def __init__(self, path: Path, threads: int = 1, target: Target = Target.CPU) -> None:
        self._session = _session(path, threads, _PROVIDERS[target])

    def __call__(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """FP32 [tokens of all rows, hidden]; of a static model [rows, dimension]."""
        return next(iter(_run(self._session, feed(rows)).values()))


class HeadGraph:
    """A head, which always runs on the CPU; for the arguments see `EncoderGraph`."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._session = _session(path, threads)

    def __call__(self, rows: Sequence[Row], tokens: NDArray[np.float32]) -> Tensors:
        """All outputs by name, from FP32 [tokens of all rows, hidden] of rows that are one request."""
        return _run(self._session, head_feed(rows, tokens))


class QueryGraph:
    """A graph that looks queries up; for the argument see `EncoderGraph`."""

    def __init__(self, path: Path) -> None:
        self._session = _session(path, threads=1)

    def __call__(self, rows: Sequence[Row]) -> Tensors:
        """Both outputs by name."""
        return _run(self._session, feed(rows))


def feed(rows: Sequence[Row]) -> Tensors:
    """All that encoders take, for rows merged into one run."""
    inputs = {
        IDS: _joined([row.ids for row in rows]),
        MASK: _joined([_mask(row) for row in rows]),
        TYPES: _joined([row.types for row in rows]),
    }
    return {**inputs, **row_lengths([len(row.ids) for row in rows], MASK, TYPES)}


def head_feed(rows: Sequence[Row], tokens: NDArray[np.float32]) -> Tensors:
    """All that heads take, for FP32 [tokens of all rows, hidden] of rows that are one request."""
    inputs = {**feed(rows), EMBEDDINGS: tokens.ravel()}
    inputs |= head_lengths([len(row.ids) for row in rows], tokens.shape[1])
    chunk_counts = np.array([len(row.chunk_ends) for row in rows], np.int32)
    inputs |= {CHUNK_ENDS: _joined([list(row.chunk_ends) for row in rows]), lengths_name(CHUNK_ENDS): chunk_counts}
    return inputs | {REQUEST_ELEMENTS: np.array([inputs[MASK].size], np.int32)}


def can_run(target: Target) -> bool:
    """Whether this machine's onnxruntime has what the target needs."""
    return _PROVIDERS[target] in ort.get_available_providers()


def _joined(numbers: list[list[int]]) -> NDArray[np.int64]:
    return np.concatenate([np.asarray(each, np.int64) for each in numbers])


def _mask(row: Row) -> list[int]:
    return [3] * row.prompt + [1] * (len(row.ids) - row.prompt - row.masked) + [2] * row.masked


def _session(path: Path, threads: int, provider: str = "CPUExecutionProvider") -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=[provider])


def _run(session: ort.InferenceSession, inputs: Tensors) -> Tensors:
    """All outputs by name, from those of the inputs that the graph takes."""
    taken, given = ([tensor.name for tensor in side] for side in (session.get_inputs(), session.get_outputs()))
    return dict(zip(given, session.run(given, {name: inputs[name] for name in taken}), strict=True))
