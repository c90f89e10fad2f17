"""sentence-transformers with its ONNX backend, from text to vector, batches of 32 sorted by length as it does itself.

python -m benchmarks.peers.sentence_transformers_worker FOLDER MODEL.onnx THREADS TEXTS_PER_CALL INDEX COUNT
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import onnxruntime as ort
from sentence_transformers import SentenceTransformer

from benchmarks.peers.protocol import InProcess, Item, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

MAX_LENGTH = 512


class SentenceTransformers:
    """`encode`."""

    def __init__(self, folder: str, model: str, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        arguments = {"provider": "CPUExecutionProvider", "file_name": model, "session_options": options}
        self._model = SentenceTransformer(
            folder, backend="onnx", device="cpu", model_kwargs=arguments, local_files_only=True
        )
        self._model.max_seq_length = MAX_LENGTH

    def prepare(self, items: Sequence[Item]) -> list[str]:
        return [item.text for item in items]

    def run(self, prepared: Any) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = self._model.encode(
            prepared, batch_size=32, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors


if __name__ == "__main__":
    folder, model, threads, texts, *share = sys.argv[1:]
    serve(lambda: InProcess(SentenceTransformers(folder, model, int(threads)), int(texts), *map(int, share)))
