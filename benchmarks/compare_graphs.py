"""Speed of two exports of one embedding model in process: what a change of the graphs costs.

python benchmarks/compare_graphs.py OLD_REPOSITORY NEW_REPOSITORY MODEL [--rounds 20]

The two take turns, batch by batch, each on one thread; a ratio is that of the times of one turn, so what else the
machine does falls on both. Prints the median ratio for each workload, new by old: below 1 the new one is faster.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import onnxruntime as ort
from conch_export.onnx.engine import Row, feed, head_feed

from benchmarks.workloads import lengths

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORKLOADS = {"single": 1, "short": 8, "mixed": 8, "uniform": 8}
"""Rows of one run."""
BATCHES = 8
VOCABULARY = 30_000


class Pair:
    """An encoder and its pooling, with the inputs that these graphs have."""

    def __init__(self, repository: Path, model: str) -> None:
        paths = (repository / f"{model}.{part}" / "1" / "model.onnx" for part in ("encoder", "pooling"))
        self._encoder, self._pooling = map(_session, paths)

    def seconds(self, rows: list[Row]) -> float:
        """Return the seconds of one merged run."""
        inputs = feed(rows)
        begin = time.perf_counter()
        tokens = self._run(self._encoder, inputs)
        middle = time.perf_counter()
        inputs = head_feed(rows, tokens)
        resumed = time.perf_counter()
        self._run(self._pooling, inputs)
        return middle - begin + time.perf_counter() - resumed

    @staticmethod
    def _run(session: ort.InferenceSession, inputs: dict[str, Any]) -> NDArray[np.float32]:
        answer: NDArray[np.float32] = session.run(None, {t.name: inputs[t.name] for t in session.get_inputs()})[0]
        return answer


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def batches(workload: str) -> list[list[Row]]:
    """Return batches of random ids with the lengths of the workload."""
    random, size = np.random.default_rng(0), WORKLOADS[workload]
    rows = [
        Row(random.integers(1000, VOCABULARY, n).tolist(), [0] * n)
        for n in (min(length, 256) for length in lengths(workload, BATCHES * size))
    ]
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    old, new = (Pair(repository, given.model) for repository in (given.old, given.new))
    for workload in WORKLOADS:
        ratios = []
        for turn in range(given.rounds):
            for rows in batches(workload):
                pairs = (old, new) if turn % 2 else (new, old)
                times = {pair: pair.seconds(rows) for pair in pairs}
                ratios.append(times[new] / times[old])
        print(f"{workload:8} {median(ratios):.4f} of the old time ({len(ratios)} turns)")


if __name__ == "__main__":
    main()
