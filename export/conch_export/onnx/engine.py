"""Running exported graphs in process, fed as Triton feeds them. Used by verification and benchmarks, not by serving."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnxruntime as ort

from conch_export.onnx.encoder import Target
from conch_export.onnx.heads import REQUEST_ELEMENTS, head_lengths
from conch_export.verification.rows import feed

_PROVIDERS = {Target.CPU: "CPUExecutionProvider", Target.CUDA: "CUDAExecutionProvider"}

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from conch_export.verification.rows import Row


class Engine:
    """An encoder and its head.

    Args:
        encoder: path of the encoder's graph.
        head: path of the head's graph.
        threads: onnxruntime's threads inside one operator.
        target: what the encoder runs on; the head always runs on the CPU.

    Attributes:
        encoder: by itself.
    """

    def __init__(self, encoder: Path, head: Path, threads: int = 1, target: Target = Target.CPU) -> None:
        self.encoder = EncoderGraph(encoder, threads, target)
        self._head = HeadGraph(head, threads)

    def __call__(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """One merged run over rows, one request for all of them.

        Returns:
            The head's first output, FP32 [rows, dimension] or [rows, 1].
        """
        return next(iter(self._head(rows, self.encoder(rows)).values()))


class EncoderGraph:
    """An encoder alone; see `Engine`."""

    def __init__(self, path: Path, threads: int = 1, target: Target = Target.CPU) -> None:
        self._session = _session(path, threads, _PROVIDERS[target])

    def __call__(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """FP32 [tokens of all rows, hidden]."""
        inputs = feed(rows, segments="token_type_ids" in _inputs(self._session))
        return cast("NDArray[np.float32]", self._session.run(["token_embeddings"], dict(inputs))[0])


class HeadGraph:
    """A head alone; see `Engine`."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._session = _session(path, threads)

    def __call__(self, rows: Sequence[Row], tokens: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """All outputs by name, from FP32 [tokens of all rows, hidden] of rows that are one request."""
        inputs = head_feed(rows, tokens)
        taken = {name: inputs[name] for name in _inputs(self._session)}
        names = [tensor.name for tensor in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, taken), strict=True))


def head_feed(rows: Sequence[Row], tokens: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """All that heads take, for FP32 [tokens of all rows, hidden] of rows that are one request."""
    inputs: dict[str, NDArray[Any]] = {**feed(rows, segments=False), "token_embeddings": tokens.ravel()}
    inputs |= head_lengths([len(row.ids) for row in rows], tokens.shape[1])
    inputs[REQUEST_ELEMENTS] = np.array([inputs["attention_mask"].size], np.int32)
    return inputs


def _session(path: Path, threads: int, provider: str = "CPUExecutionProvider") -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=[provider])


def _inputs(session: ort.InferenceSession) -> set[str]:
    return {tensor.name for tensor in session.get_inputs()}


def can_run(target: Target) -> bool:
    """Whether this machine's onnxruntime has what the target needs."""
    return _PROVIDERS[target] in ort.get_available_providers()
