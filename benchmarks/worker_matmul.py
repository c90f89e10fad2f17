"""The machine's int8 matrix products alone: uint8 [1024, 384] x int8 [384, 1536], one thread.

    python -m benchmarks.worker_matmul

A "text" is one product here; `operations` says what it costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers.protocol import InProcess, Item, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ROWS, INNER, COLUMNS = 1024, 384, 1536
OPERATIONS = 2 * ROWS * INNER * COLUMNS


class Product:
    """One constant matrix, as a layer's weights are."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        weights = numpy_helper.from_array(random.integers(-127, 128, (INNER, COLUMNS), np.int8), "b")
        graph = helper.make_graph(
            [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
            "product",
            [helper.make_tensor_value_info("a", TensorProto.UINT8, [ROWS, INNER])],
            [helper.make_tensor_value_info("y", TensorProto.INT32, [ROWS, COLUMNS])],
            [weights],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._input = random.integers(0, 256, (ROWS, INNER), np.uint8)

    def prepare(self, _: Sequence[Item]) -> dict[str, Any]:
        return {"a": self._input}

    def run(self, prepared: Any) -> NDArray[np.float32]:
        product: NDArray[np.float32] = self._session.run(None, prepared)[0]
        return product


if __name__ == "__main__":
    serve(lambda: InProcess(Product(), batch=1))
