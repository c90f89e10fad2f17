"""infinity in process: `AsyncEmbeddingEngine.embed` over lists of texts, which it sorts and batches itself.

It optimises the model when it starts, and puts the result below HF_HOME.

python -m benchmarks.peers.infinity_worker FOLDER TEXTS_PER_CALL
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from infinity_emb import AsyncEmbeddingEngine, EngineArgs

from benchmarks.peers.protocol import InProcess, Item, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Infinity:
    """One engine with its defaults for ONNX on a CPU, started once."""

    def __init__(self, folder: str) -> None:
        os.chdir(folder)  # of a model with an absolute path it would put the optimised one into the model's own folder
        arguments = EngineArgs(
            model_name_or_path=".",
            engine="optimum",
            device="cpu",
            pooling_method="mean",
            bettertransformer=False,
        )
        self._engine = AsyncEmbeddingEngine.from_args(arguments)
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._engine.astart())

    def prepare(self, items: Sequence[Item]) -> list[str]:
        return [item.text for item in items]

    def run(self, prepared: Any) -> NDArray[np.float32]:
        vectors, _ = self._loop.run_until_complete(self._engine.embed(sentences=prepared))
        return np.asarray(vectors, np.float32)


if __name__ == "__main__":
    folder, texts = sys.argv[1:]
    serve(lambda: InProcess(Infinity(folder), int(texts)))
