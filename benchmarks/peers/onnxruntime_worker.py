"""onnxruntime the usual way: a graph of optimum's, as it is or O2, fp32 or dynamic int8, on one thread or more.

python -m benchmarks.peers.onnxruntime_worker MODEL.onnx BATCH INDEX COUNT [THREADS]
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

    def __init__(self, path: str, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._inputs = {tensor.name for tensor in self._session.get_inputs()}

    def prepare(self, items: Sequence[Item]) -> dict[str, NDArray[np.int64]]:
        return {name: matrix for name, matrix in padded(items).items() if name in self._inputs}

    def run(self, prepared: Any) -> NDArray[np.float32]:
        return mean_pooled(self._session.run(None, prepared)[0], prepared["attention_mask"])


if __name__ == "__main__":
    model, batch, index, count, *threads = sys.argv[1:]
    session = (model, int(threads[0]) if threads else 1)
    serve(lambda: InProcess(Onnxruntime(*session), int(batch), int(index), int(count)))
