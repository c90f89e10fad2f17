"""Does the memory of a model's process grow with the number of requests? Random lengths, in process, one thread.

python benchmarks/arena.py [--requests 20000]      prints a table and keeps results/arena.json

Each setting runs in a process of its own, in which onnxruntime has the options that Triton's backends give it. The
encoders are small, of random weights; what counts is the number and spread of lengths that the arena has to serve. Runs
are of 1 to 8 rows, log-normal lengths of median 40; one row in 400 is drawn from all lengths the model takes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import numpy as np
import onnxruntime as ort
from conch_export.model.network import (
    Activation,
    Attention,
    Encoder,
    FeedForward,
    Layer,
    Linear,
    Norm,
    Rotary,
    rotary_frequencies,
)
from conch_export.onnx.encoder import encoder_graph
from conch_export.onnx.layout import row_lengths
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.machine import machine

if TYPE_CHECKING:
    from numpy.typing import NDArray

HIDDEN, INNER, HEADS, LAYERS, VOCABULARY = 32, 128, 2, 2, 1000
MODELS = {"512 tokens": 512, "8,192 tokens": 8192}
SETTINGS: dict[str, dict[str, bool]] = {
    "defaults": {},
    "no memory pattern": {"enable_mem_pattern": False},
    "no arena": {"enable_cpu_mem_arena": False},
}
QUARTERS = 4


def small_encoder(max_length: int) -> Encoder:
    """Rotary positions and a gate, as nomic-bert has them."""
    random = np.random.default_rng(0)

    def linear(inputs: int, outputs: int) -> Linear:
        return Linear((random.standard_normal((inputs, outputs)) / np.sqrt(inputs)).astype(np.float32))

    norm = Norm(np.ones(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32), 1e-6)
    rotary = Rotary.of(rotary_frequencies(10000, HIDDEN // HEADS), max_length)

    def layer() -> Layer:
        query, key, value, output = (linear(HIDDEN, HIDDEN) for _ in range(4))
        network = FeedForward(linear(HIDDEN, INNER), linear(INNER, HIDDEN), Activation.SILU, linear(HIDDEN, INNER))
        attention = Attention(query, key, value, output, heads=HEADS, key_heads=HEADS, rotary=rotary)
        return Layer(attention, norm, network, norm)

    words = random.standard_normal((VOCABULARY, HIDDEN)).astype(np.float32)
    return Encoder(words, tuple(layer() for _ in range(LAYERS)), max_length, norm=norm)


def feed(random: np.random.Generator, max_length: int) -> dict[str, NDArray[Any]]:
    """One merged run."""
    lengths = np.clip(random.lognormal(np.log(40), 0.9, random.integers(1, 9)), 1, max_length).astype(int)
    if random.random() < len(lengths) / 400:
        lengths[0] = random.integers(1, max_length + 1)
    ids = random.integers(0, VOCABULARY, lengths.sum())
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), **row_lengths(lengths.tolist(), "attention_mask")}


def measure(model: str, setting: str, requests: int) -> dict[str, Any]:
    """Bytes resident after each quarter of the runs, in this process."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for name, value in SETTINGS[setting].items():
        setattr(options, name, value)
    with tempfile.TemporaryDirectory() as folder:
        path = encoder_graph(small_encoder(MODELS[model])).save(Path(folder))
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    random, begin, resident = np.random.default_rng(1), time.perf_counter(), []
    for number in range(1, requests + 1):
        session.run(None, feed(random, MODELS[model]))
        if number % (requests // QUARTERS) == 0:
            resident.append(_resident())
    return {"resident_bytes": resident, "requests_per_s": round(requests / (time.perf_counter() - begin), 1)}


def _resident() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def main() -> None:
    """Measure each setting in a process of its own, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "SETTING"), help="measure in this process, print JSON")
    given = parser.parse_args()
    if given.one:
        model, setting = given.one
        print(json.dumps(measure(model, setting, given.requests)))
        return
    table = Table("model", "setting", "MB resident after each quarter", "requests/s")
    results: dict[str, dict[str, Any]] = {}
    for model in MODELS:
        for setting in SETTINGS:
            command = [sys.executable, __file__, "--requests", str(given.requests), "--one", model, setting]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            results.setdefault(model, {})[setting] = found
            quarters = ", ".join(f"{size / 1e6:.0f}" for size in found["resident_bytes"])
            table.add_row(model, setting, quarters, str(found["requests_per_s"]))
    Console().print(table)
    path = Path(__file__).parent / "results" / "arena.json"
    command_line = f"python benchmarks/arena.py --requests {given.requests}"
    kept = {"command": command_line, "machine": machine(), "requests": given.requests, "results": results}
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
