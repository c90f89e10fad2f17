"""A process that runs an encoder's graph, importing as little as serving, and prints the bytes resident at most.

Opening the graph does not count: then the weights are mapped, and packed beside that.

python -I peak_process.py GRAPH LENGTH…
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

_RUNS = 2
"""onnxruntime's arena still grows in the second run, and not after it."""


def main(graph: str, *rows: int) -> None:
    """Run rows of these numbers of tokens, all real, twice."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    ones = np.ones(sum(rows), np.int64)
    lengths = np.array(rows, np.int32)
    inputs = {t.name: lengths if t.name.endswith("_lengths") else ones for t in session.get_inputs()}
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the maximum begins anew
    for _ in range(_RUNS):
        session.run(None, inputs)
    # Not getrusage, whose maximum begins with what the parent had when it forked.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(int(status.partition("VmHWM:")[2].split()[0]) * 1024)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
