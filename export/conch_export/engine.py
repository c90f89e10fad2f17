"""Running exported graphs in process, fed as Triton feeds them. Used by verification and benchmarks, not by serving."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import onnxruntime as ort

from conch_export.graphs.heads import REQUEST_ELEMENTS
from conch_export.graphs.ragged import ROW_LENGTHS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class Engine:
    """An encoder and its head.

    Args:
        encoder: path of the encoder's graph.
        head: path of the head's graph.
        threads: onnxruntime's threads inside one operator.
    """

    def __init__(self, encoder: Path, head: Path, threads: int = 1) -> None:
        self._encoder = _session(encoder, threads)
        self._head = _session(head, threads)

    def __call__(
        self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None = None
    ) -> NDArray[np.float32]:
        """One merged run over rows of token ids, one request for all of them.

        Returns:
            FP32 [rows, dimension] or [rows, 1].
        """
        tokens, mask, lengths = self.tokens(rows, types), np.ones(sum(map(len, rows)), np.int64), _lengths(rows)
        feed = {"token_embeddings": tokens.ravel(), "attention_mask": mask, ROW_LENGTHS: lengths}
        if REQUEST_ELEMENTS in _inputs(self._head):
            feed[REQUEST_ELEMENTS] = np.array([mask.size], np.int32)
        return cast("NDArray[np.float32]", self._head.run(None, feed)[0])

    def tokens(
        self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None = None
    ) -> NDArray[np.float32]:
        """The encoder alone: FP32 [tokens of all rows, hidden]."""
        ids = np.concatenate([np.asarray(row, np.int64) for row in rows])
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), ROW_LENGTHS: _lengths(rows)}
        if "token_type_ids" in _inputs(self._encoder):
            feed["token_type_ids"] = np.concatenate([np.asarray(row, np.int64) for row in types or []])
        return cast("NDArray[np.float32]", self._encoder.run(["token_embeddings"], feed)[0])


def _lengths(rows: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    return np.array([len(row) for row in rows], np.int32)


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _inputs(session: ort.InferenceSession) -> set[str]:
    return {tensor.name for tensor in session.get_inputs()}
