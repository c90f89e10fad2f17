"""onnxruntime the usual way: optimum O2 + dynamic int8, one thread.

python -m benchmarks.peers.onnxruntime_worker MODEL.onnx BATCH INDEX COUNT
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from benchmarks.peers.protocol import InProcess, Item, mean_pooled, padded, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class Onnxruntime:
    """One session; padding is attended to and computed, as it is by default."""

    def __init__(self, path: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def prepare(self, items: Sequence[Item]) -> dict[str, NDArray[np.int64]]:
        return padded(items)

    def run(self, prepared: Any) -> NDArray[np.float32]:
        return mean_pooled(self._session.run(None, prepared)[0], prepared["attention_mask"])


if __name__ == "__main__":
    model, *numbers = sys.argv[1:]
    serve(lambda: InProcess(Onnxruntime(model), *map(int, numbers)))
