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
    """Two graphs, by their paths, on one thread."""

    def __init__(self, encoder: Path, head: Path) -> None:
        self.encoder, self._head = EncoderGraph(encoder), HeadGraph(head)

    def __call__(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """The head's first output, FP32 [rows, dimension] or [rows, 1], of rows that are one request."""
        return next(iter(self._head(rows, self.encoder(rows)).values()))
