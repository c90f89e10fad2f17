"""Running exported graphs in process, fed as Triton feeds them. Used by verification and benchmarks, not by serving."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnxruntime as ort

from conch_export.graphs.encoder import Target
from conch_export.graphs.heads import REQUEST_ELEMENTS
from conch_export.graphs.ragged import ROW_LENGTHS
from conch_export.rows import feed

_PROVIDERS = {Target.CPU: "CPUExecutionProvider", Target.CUDA: "CUDAExecutionProvider"}

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from conch_export.rows import Row


class Engine:
    """An encoder and its head.

    Args:
        encoder: path of the encoder's graph.
        head: path of the head's graph.
        threads: onnxruntime's threads inside one operator.
        target: what the encoder runs on; the head always runs on the CPU.
    """

    def __init__(self, encoder: Path, head: Path, threads: int = 1, target: Target = Target.CPU) -> None:
        self._encoder = _session(encoder, threads, _PROVIDERS[target])
        self._head = _session(head, threads)

    def __call__(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """One merged run over rows, one request for all of them.

        Returns:
            FP32 [rows, dimension] or [rows, 1].
        """
        inputs = self._feed(rows)
        tokens = self._encoder.run(["token_embeddings"], inputs)[0]
        head = {"token_embeddings": tokens.ravel(), **{name: inputs[name] for name in ("attention_mask", ROW_LENGTHS)}}
        if REQUEST_ELEMENTS in _inputs(self._head):
            head[REQUEST_ELEMENTS] = np.array([inputs["attention_mask"].size], np.int32)
        return cast("NDArray[np.float32]", self._head.run(None, head)[0])

    def tokens(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """The encoder alone: FP32 [tokens of all rows, hidden]."""
        return cast("NDArray[np.float32]", self._encoder.run(["token_embeddings"], self._feed(rows))[0])

    def _feed(self, rows: Sequence[Row]) -> dict[str, Any]:
        return dict(feed(rows, segments="token_type_ids" in _inputs(self._encoder)))


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
