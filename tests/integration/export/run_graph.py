"""A process that runs a graph with onnxruntime's defaults, as Triton's official backend does, on inputs from a file.

python -I run_graph.py GRAPH FEEDS ANSWERS

FEEDS and ANSWERS are .npz; entry `2.input_ids` belongs to the third run. A run that is refused has one entry `2.error`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import numpy as np
import onnxruntime as ort


def main(graph: str, feeds: str, answers: str) -> None:
    ort.set_default_logger_severity(4)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    runs: dict[str, dict[str, Any]] = defaultdict(dict)
    for key, value in np.load(feeds).items():
        run, name = key.split(".")
        runs[run][name] = value
    taken = [tensor.name for tensor in session.get_inputs()]
    results = {}
    for run, feed in runs.items():
        try:
            outputs = session.run(None, {name: feed[name] for name in taken})
        except Exception as error:  # noqa: BLE001  onnxruntime has no common base for what a graph can raise
            results[f"{run}.error"] = np.array(str(error))
            continue
        for tensor, output in zip(session.get_outputs(), outputs, strict=True):
            results[f"{run}.{tensor.name}"] = output
    np.savez(answers, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
