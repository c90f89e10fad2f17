"""The packed graph on a GPU against transformers in the same precision, on texts of mixed lengths.

    python benchmarks/gpu.py --output gpu.json        encoders of bge-large's and MiniLM's shapes, on CUDA
    python benchmarks/gpu.py --device cpu --tiny      to try it without a GPU

Needs no Triton, no checkpoint and no network: weights are random, and only numpy, onnx, torch, transformers and
onnxruntime-gpu (on the CPU, onnxruntime) have to be installed, in any version from numpy 1 and transformers 4 on. Both
sides get the same weights and rows of token ids. transformers runs with SDPA on rows that are sorted by length and
padded, as sentence-transformers sends them.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch  # before onnxruntime, which finds the CUDA libraries that torch has loaded
import transformers

# The package itself imports whatever an export needs. Graphs need less: its modules are imported without it.
_PACKAGE = ModuleType("conch_export")
_PACKAGE.__path__ = [str(Path(__file__).parents[1] / "export" / "conch_export")]
sys.modules.setdefault("conch_export", _PACKAGE)
sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

import onnxruntime as ort
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.families import bert
from conch_export.model.description import Target
from conch_export.onnx.encoder import as_float16, encoder_graph
from conch_export.onnx.layout import row_lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Rows = Sequence[NDArray[np.int64]]
    Run = Callable[[Rows], NDArray[np.float32]]

PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
LONGEST = 512


@dataclass(frozen=True)
class Shape:
    """The size of a BERT."""

    layers: int
    hidden: int

    def flops(self, lengths: Sequence[int]) -> float:
        """Floating-point operations for rows of these lengths: of the weights, and of attention."""
        return sum(24.0 * self.layers * n * self.hidden**2 + 4.0 * self.layers * n**2 * self.hidden for n in lengths)

    def save(self, folder: str) -> Any:
        """A model with seeded random weights, saved as a checkpoint."""
        torch.manual_seed(0)
        config = transformers.BertConfig(
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.hidden // 64 if self.hidden >= 512 else self.hidden // 32,
            intermediate_size=4 * self.hidden,
            attn_implementation="sdpa",
        )
        model = transformers.BertModel(config, add_pooling_layer=False).eval()
        model.save_pretrained(folder)
        return model


SHAPES = {"bge-large": Shape(24, 1024), "MiniLM": Shape(6, 384)}
TINY = {"tiny": Shape(2, 128)}


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=sorted(PROVIDERS), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a small model and few texts: does it run?")
    parser.add_argument("--texts", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=64, help="rows in one run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="also write the result to this file")
    return parser.parse_args()


def rows_of(count: int) -> list[NDArray[np.int64]]:
    """Log-normal lengths, median 40, 4 to 512 tokens."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(40), 0.9, count), 4, LONGEST).astype(int)
    return [random.integers(1000, 30000, length) for length in lengths]


def packed(folder: str, device: str, *, half: bool) -> Run:
    """Our graph: first-token vectors of a batch."""
    checkpoint = Checkpoint(Path(folder))
    encoder = bert.FAMILY.read_encoder(checkpoint.config, checkpoint.weights)
    target = Target.CUDA if device == "cuda" else Target.CPU
    graph = encoder_graph(as_float16(encoder) if half else encoder, target=target)
    place = Path(folder) / "packed"
    place.mkdir(exist_ok=True)
    session = ort.InferenceSession(graph.save(place), providers=[PROVIDERS[device]])
    if session.get_providers()[0] != PROVIDERS[device]:
        raise SystemExit("onnxruntime has no CUDA here: install onnxruntime-gpu, or try --device cpu")

    def run(rows: Rows) -> NDArray[np.float32]:
        ids, lengths = np.concatenate(rows), np.array([len(row) for row in rows], np.int32)
        added = row_lengths(lengths.tolist(), "attention_mask")
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), **added}
        tokens: NDArray[np.float32] = session.run(None, feed)[0]
        first_tokens: NDArray[np.float32] = tokens[np.cumsum(lengths) - lengths]
        return first_tokens

    return run


def padded(model: Any, device: str, *, half: bool) -> Run:
    """transformers: first-token vectors of a batch padded to its longest row."""
    model = model.to(device, torch.float16 if half else torch.float32)

    @torch.inference_mode()
    def run(rows: Rows) -> NDArray[np.float32]:
        ids = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
        mask = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
        hidden = model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
        vectors: NDArray[np.float32] = hidden[:, 0].float().cpu().numpy()
        return vectors

    return run


def batches(rows: Rows, size: int) -> list[Rows]:
    """Rows in runs of this size."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def matmul_flops_per_s(device: str, size: int) -> float:
    """What the device's products of square bfloat16 matrices come to: the best of five."""
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = math.inf
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(10):
            product = one @ other
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - began)
    return 10 * 2 * size**3 / best


def largest_batch(run: Run, most: int) -> int:
    """Rows of 512 tokens that are computed at once before memory ends, in powers of two."""
    row, fitting = np.arange(1000, 1000 + LONGEST), 0
    while 2 * max(fitting, 1) <= most:
        try:
            run([row] * 2 * max(fitting, 1))
        except Exception as error:  # noqa: BLE001 - onnxruntime has no class of its own for this
            print(f"{2 * max(fitting, 1)} rows of {LONGEST}: {str(error)[:200]}", file=sys.stderr)
            break
        fitting = 2 * max(fitting, 1)
    return fitting


def latency_ms(run: Run, tokens: int = 16) -> dict[str, float]:
    """Of one row at a time."""
    row, times = [np.arange(1000, 1000 + tokens)], []
    for _ in range(60):
        began = time.perf_counter()
        run(row)
        times.append(1e3 * (time.perf_counter() - began))
    return {"median": round(statistics.median(times[10:]), 3), "largest": round(max(times[10:]), 3)}


def rates(systems: dict[str, tuple[Run, list[Rows]]], rounds: int, tokens: int) -> dict[str, int]:
    """Tokens per second of each system, by turns: the median of the rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, (run, work) in systems.items():
            began = time.perf_counter()
            for batch in work:
                run(batch)
            seconds[name].append(time.perf_counter() - began)
    return {name: round(tokens / statistics.median(times)) for name, times in seconds.items()}


def least_cosine(ours: Run, theirs: Run, some: list[Rows]) -> float:
    """The least of two systems' vectors of the same rows."""
    pairs = [(ours(batch), theirs(batch)) for batch in some]
    a, b = (np.concatenate(vectors) for vectors in zip(*pairs, strict=True))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / norms).min())


def measure(shape: Shape, chosen: argparse.Namespace, peak: float) -> dict[str, Any]:
    """Everything about one shape."""
    rows, halved = rows_of(chosen.texts), chosen.device == "cuda"
    mixed, even = batches(rows, chosen.batch), batches(sorted(rows, key=len), chosen.batch)
    lengths = [len(row) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        model = shape.save(folder)
        cosine = {}
        for half in (False, True) if halved else (False,):
            ours, theirs = packed(folder, chosen.device, half=half), padded(model, chosen.device, half=half)
            cosine["fp16" if half else "fp32"] = least_cosine(ours, theirs, mixed[:4])
        systems = {"packed": (ours, mixed), "transformers": (theirs, even)}
        rate = rates(systems, chosen.rounds, sum(lengths))
        return {
            "layers": shape.layers,
            "hidden": shape.hidden,
            "least_cosine": cosine,
            "tokens_per_s": rate,
            "share_of_bf16_matmul": {
                name: round(rate[name] * shape.flops(lengths) / sum(lengths) / peak, 3) for name in rate
            },
            "latency_ms": {name: latency_ms(run) for name, (run, _) in systems.items()},
            "largest_batch": largest_batch(ours, 4 if chosen.tiny else 8192),
        }


def main() -> None:
    """Measure, and print one JSON object."""
    chosen = options()
    if chosen.tiny:
        chosen.texts, chosen.batch, chosen.rounds = 32, 8, 1
    peak = matmul_flops_per_s(chosen.device, 256 if chosen.tiny else 8192)
    result = {
        "command": f"python benchmarks/gpu.py {' '.join(sys.argv[1:])}".strip(),
        "texts": chosen.texts,
        "batch": chosen.batch,
        "device": torch.cuda.get_device_name() if chosen.device == "cuda" else platform.processor(),
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (np, ort, torch, transformers)},
        },
        "bf16_matmul_flops_per_s": peak,
        "shapes": {name: measure(shape, chosen, peak) for name, shape in (TINY if chosen.tiny else SHAPES).items()},
    }
    text = json.dumps(result, indent=1)
    print(text)
    if chosen.output is not None:
        chosen.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
