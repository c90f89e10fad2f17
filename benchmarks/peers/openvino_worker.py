"""OpenVINO int8 (static, nncf): an asynchronous queue of some streams, two by default, one text a request.

python -m benchmarks.peers.openvino_worker MODEL.onnx INT8.xml CALIBRATION.json [CALIBRATION_TEXTS STREAMS]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov  # type: ignore[import-not-found, unused-ignore]

from benchmarks.peers.protocol import Item, load_items, mean_pooled, padded, report, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

THREADS = STREAMS = 2
CALIBRATION_TEXTS = 300


class OpenVino:
    """A compiled model and its queue."""

    def __init__(self, model: str, streams: int) -> None:
        hint = "THROUGHPUT" if streams > 1 else "LATENCY"
        properties = {"PERFORMANCE_HINT": hint, "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": THREADS}
        compiled = ov.Core().compile_model(model, "CPU", properties)
        self._inputs, self._streams = {tensor.any_name for tensor in compiled.inputs}, streams
        self._queue = ov.AsyncInferQueue(compiled, streams)
        self._queue.set_callback(self._finished)
        self._vectors: dict[int, NDArray[np.float32]] = {}
        self._latencies: list[float] = []
        self._lengths_met: set[int] = set()

    def embed(self, items: Sequence[Item]) -> NDArray[np.float32]:
        self._vectors.clear()
        for number, item in enumerate(items):
            self._start(padded([item]), number)
        self._queue.wait_all()
        return np.concatenate([self._vectors[number] for number in range(len(items))])

    def measure(self, items: Sequence[Item], seconds: float) -> dict[str, Any]:
        inputs = [padded([item]) for item in items]
        self._meet(items)
        self._latencies.clear()
        began, sent = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            self._start(inputs[sent % len(items)], sent)
            sent += 1
        self._queue.wait_all()
        done = [items[number % len(items)] for number in range(sent)]
        return report(done, time.perf_counter() - began, self._latencies)

    def _meet(self, items: Sequence[Item]) -> None:
        """Compute one text of every new length, because OpenVINO compiles for each shape when it first occurs."""
        new = {len(item.ids): item for item in items if len(item.ids) not in self._lengths_met}
        self._lengths_met |= new.keys()
        if new:
            self.embed([*new.values()] * self._streams)

    def _start(self, inputs: dict[str, NDArray[np.int64]], number: int) -> None:
        # Shared inputs are not copied, so they have to live until the request has finished.
        taken = {name: matrix for name, matrix in inputs.items() if name in self._inputs}
        self._queue.start_async(taken, (number, inputs, time.perf_counter()), share_inputs=True)

    def _finished(self, request: Any, about: tuple[int, dict[str, NDArray[np.int64]], float]) -> None:
        number, inputs, began = about
        self._vectors[number] = mean_pooled(request.get_output_tensor(0).data, inputs["attention_mask"])
        self._latencies.append(time.perf_counter() - began)


def quantized(source: str, path: Path, calibration: str, count: int) -> str:
    """The int8 model, made at the first call with the first `count` texts of a file."""
    if not path.exists():
        import nncf  # type: ignore[import-not-found, unused-ignore] # noqa: PLC0415 - slow, and needed once

        model = ov.Core().read_model(source)
        names = {tensor.any_name for tensor in model.inputs}
        texts = [padded([item]) for item in load_items(calibration)[:count]]
        model = nncf.quantize(
            model,
            nncf.Dataset([{name: text[name] for name in names} for text in texts]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=count,
        )
        ov.save_model(model, path)
    return str(path)


if __name__ == "__main__":
    source, path, calibration, *numbers = sys.argv[1:]
    texts, streams = map(int, numbers or (CALIBRATION_TEXTS, STREAMS))
    serve(lambda: OpenVino(quantized(source, Path(path), calibration, texts), streams))
