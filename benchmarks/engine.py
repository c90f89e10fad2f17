"""An encoder and its head in process, fed as Triton feeds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_export.onnx.engine import EncoderGraph, HeadGraph

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from conch_export.onnx.engine import Row
    from numpy.typing import NDArray


class Engine:
    """Two graphs, by their paths; `threads` are onnxruntime's inside one operator."""

    def __init__(self, encoder: Path, head: Path, threads: int = 1) -> None:
        self.encoder = EncoderGraph(encoder, threads)
        self._head = HeadGraph(head, threads)

    def __call__(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """The head's first output, FP32 [rows, dimension] or [rows, 1], of rows that are one request."""
        return next(iter(self._head(rows, self.encoder(rows)).values()))
