"""Conch's graphs in process, one thread, in batches as Triton merges them.

python worker_graphs.py REPOSITORY MODEL BATCH INDEX COUNT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conch_export.onnx.engine import Row

from benchmarks.engine import Engine
from benchmarks.peers.protocol import InProcess, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from benchmarks.peers.protocol import Item


class Graphs:
    """The encoder and its pooling."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def prepare(self, items: Sequence[Item]) -> list[Row]:
        return [Row(item.ids, [0] * len(item.ids)) for item in items]

    def run(self, prepared: Any) -> NDArray[np.float32]:
        return self._engine(prepared)


def open_graphs(repository: Path, model: str) -> Graphs:
    """The graphs of an embedding model in a repository, one thread."""
    encoder, pooling = (repository / f"{model}.{part}" / "1" / "model.onnx" for part in ("encoder", "pooling"))
    return Graphs(Engine(encoder, pooling))


if __name__ == "__main__":
    repository, model, *numbers = sys.argv[1:]
    serve(lambda: InProcess(open_graphs(Path(repository), model), *map(int, numbers)))
