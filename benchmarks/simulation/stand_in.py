"""Stand-ins for Tritons in a process of their own: runs take a fixed time, one at a time, and no processor.

python -m benchmarks.simulation.stand_in SECONDS PORT [PORT ...]

They merge calls that wait, as far as they fit, and count runs and calls, as Triton does, so that `conch bench
--profile` can measure one.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from conch_client.testing import FakeModel, FakeServer
from conch_contract import encoder_name
from tritonclient.grpc import service_pb2

from benchmarks.servers import HOST

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL = "stand-in"
MAX_ROWS = 8
DIMENSION = 384


class Call(NamedTuple):
    """A call that waits: its rows, and what is set when they are done."""

    rows: int
    done: threading.Event


@dataclass
class Slow(FakeModel):
    """A model with one instance, whose every run takes the same time.

    Attributes:
        seconds: That a run takes.
        runs: Runs so far, by their number of rows.
        calls: Calls so far.
        waiting: Calls in the order in which they came.
    """

    seconds: float = 0.0
    runs: Counter[int] = field(default_factory=Counter)
    calls: int = 0
    waiting: SimpleQueue[Call] = field(default_factory=SimpleQueue)

    def __post_init__(self) -> None:
        """Start the instance."""
        threading.Thread(target=self._run, daemon=True).start()

    def compute(self, tensors: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[Any]]:
        """Wait until a run has taken the call, and return equal vectors."""
        call = Call(len(tensors["input_ids"]), threading.Event())
        self.waiting.put(call)
        call.done.wait()
        return {self.outputs[0]: np.full((call.rows, DIMENSION), DIMENSION**-0.5, np.float32)}

    def _run(self) -> None:
        call = self.waiting.get()
        while True:
            merged, rows, following = [call], call.rows, None
            while not self.waiting.empty():  # nobody else takes any
                following = self.waiting.get()
                if rows + following.rows > MAX_ROWS:
                    break
                merged.append(following)
                rows, following = rows + following.rows, None
            time.sleep(self.seconds)
            self.runs[rows] += 1
            self.calls += len(merged)
            for each in merged:
                each.done.set()
            call = following or self.waiting.get()


class StandIn(FakeServer):
    """A server of one such model."""

    def __init__(self, seconds: float, url: str) -> None:
        limits = {"max_length": "256"}
        self.slow = Slow(max_rows=MAX_ROWS, dimension=DIMENSION, instances=1, parameters=limits, seconds=seconds)
        super().__init__({MODEL: self.slow}, url)

    def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        """Return what Triton says of itself."""
        return service_pb2.ServerMetadataResponse(name=MODEL, version="0")

    def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        """Return what Triton counts of runs and of calls."""
        encoder = service_pb2.ModelStatistics(name=encoder_name(MODEL))
        for rows, count in sorted(self.slow.runs.items()):
            batch = encoder.batch_stats.add(batch_size=rows)
            batch.compute_infer.count = count
            batch.compute_infer.ns = round(1e9 * self.slow.seconds) * count
        model = service_pb2.ModelStatistics(name=MODEL)
        model.inference_stats.success.count = self.slow.calls
        return service_pb2.ModelStatisticsResponse(model_stats=[encoder, model])


def main(seconds: str, *ports: str) -> None:
    """Serve until killed."""
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(StandIn(float(seconds), f"{HOST}:{port}"))
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
