"""sentence-transformers on torch in fp32, from text to vector or, with a query, to score; batches of 8 by length.

python -m benchmarks.peers.torch_worker FOLDER THREADS TEXTS_PER_CALL [QUERY]
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

from benchmarks.peers.protocol import InProcess, Item, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

BATCH = 8


class Embedder:
    """`SentenceTransformer.encode`."""

    def __init__(self, folder: str) -> None:
        self._model = SentenceTransformer(folder, device="cpu", local_files_only=True)

    def prepare(self, items: Sequence[Item]) -> list[str]:
        return [item.text for item in items]

    def run(self, prepared: Any) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = self._model.encode(prepared, batch_size=BATCH, show_progress_bar=False)
        return vectors


class Reranker:
    """`CrossEncoder.predict`."""

    def __init__(self, folder: str, query: str) -> None:
        self._model, self._query = CrossEncoder(folder, device="cpu", local_files_only=True), query

    def prepare(self, items: Sequence[Item]) -> list[tuple[str, str]]:
        return [(self._query, item.text) for item in items]

    def run(self, prepared: Any) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._model.predict(prepared, batch_size=BATCH, show_progress_bar=False)
        return scores


if __name__ == "__main__":
    folder, threads, texts, *query = sys.argv[1:]
    torch.set_num_threads(int(threads))
    serve(lambda: InProcess(Reranker(folder, *query) if query else Embedder(folder), int(texts)))
