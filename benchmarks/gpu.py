"""The CUDA graph against transformers in half precision, on texts of mixed lengths. Needs no Triton and no checkpoint.

    python benchmarks/gpu.py                      an encoder of bge-large's shape with random weights, on CUDA
    python benchmarks/gpu.py --device cpu --layers 2 --hidden 128 --texts 64    to try it without a GPU

It takes numpy, onnx, torch, transformers and onnxruntime-gpu (on the CPU, onnxruntime). Both sides get the same weights
and rows of token ids; transformers gets its rows sorted by length and padded, as sentence-transformers sends them.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import torch
from transformers import BertConfig, BertModel

sys.path.insert(0, str(Path(__file__).parent.parent / "export"))
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.families import bert
from conch_export.onnx.encoder import Target, as_float16, encoder_graph
from conch_export.onnx.layout import row_lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=sorted(PROVIDERS), default="cuda")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--texts", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=64, help="rows in one run")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def rows_of(count: int) -> list[NDArray[np.int64]]:
    """Log-normal lengths, median 40, 4 to 512 tokens."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(40), 0.9, count), 4, 512).astype(int)
    return [random.integers(1000, 30000, length) for length in lengths]


def packed(folder: str, chosen: argparse.Namespace) -> Callable[[Sequence[NDArray[np.int64]]], NDArray[np.float32]]:
    """Our graph: first-token vectors of a batch."""
    checkpoint = Checkpoint(Path(folder))
    encoder = bert.FAMILY.read_encoder(checkpoint.config, checkpoint.weights)
    on_cuda = chosen.device == "cuda"
    graph = encoder_graph(as_float16(encoder), target=Target.CUDA) if on_cuda else encoder_graph(encoder)
    path = Path(folder) / "packed.onnx"
    path.write_bytes(graph.SerializeToString())
    session = ort.InferenceSession(path, providers=[PROVIDERS[chosen.device]])
    if session.get_providers()[0] != PROVIDERS[chosen.device]:
        raise SystemExit("onnxruntime has no CUDA here: install onnxruntime-gpu, or try --device cpu")

    def run(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        ids, lengths = np.concatenate(rows), np.array([len(row) for row in rows], np.int32)
        added = row_lengths(lengths.tolist(), "attention_mask")
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), **added}
        tokens: NDArray[np.float32] = session.run(None, feed)[0]
        first_tokens: NDArray[np.float32] = tokens[np.cumsum(lengths) - lengths]
        return first_tokens

    return run


def padded(model: Any, device: str) -> Callable[[Sequence[NDArray[np.int64]]], NDArray[np.float32]]:
    """transformers: first-token vectors of a batch padded to its longest row."""
    model = model.to(device, torch.float16 if device == "cuda" else torch.float32)

    @torch.inference_mode()
    def run(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        ids = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
        mask = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
        hidden = model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
        vectors: NDArray[np.float32] = hidden[:, 0].float().cpu().numpy()
        return vectors

    return run


def main() -> None:
    """Measure and print one JSON object."""
    chosen = options()
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=chosen.hidden,
        num_hidden_layers=chosen.layers,
        num_attention_heads=chosen.hidden // 64,
        intermediate_size=4 * chosen.hidden,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    rows = rows_of(chosen.texts)
    batches = [rows[i : i + chosen.batch] for i in range(0, len(rows), chosen.batch)]
    ordered = sorted(rows, key=len)
    even = [ordered[i : i + chosen.batch] for i in range(0, len(rows), chosen.batch)]
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        systems = {"packed": (packed(folder, chosen), batches), "transformers": (padded(model, chosen.device), even)}
        cosines = [_cosine(systems["packed"][0](batch), systems["transformers"][0](batch)) for batch in batches[:4]]
        seconds: dict[str, list[float]] = {name: [] for name in systems}
        for _ in range(chosen.rounds):
            for name, (run, work) in systems.items():
                began = time.perf_counter()
                for batch in work:
                    run(batch)
                seconds[name].append(time.perf_counter() - began)
    tokens = sum(map(len, rows))
    result = {
        "options": vars(chosen),
        "device": torch.cuda.get_device_name() if chosen.device == "cuda" else platform.processor(),
        "versions": {"torch": torch.__version__, "onnxruntime": ort.__version__, "python": platform.python_version()},
        "min_cosine": min(cosines),
        "tokens_per_s": {name: round(tokens / statistics.median(times)) for name, times in seconds.items()},
        "seconds": seconds,
    }
    print(json.dumps(result, indent=2))


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / norms).min())


if __name__ == "__main__":
    main()
