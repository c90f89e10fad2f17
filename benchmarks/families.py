"""Speed of encoders per operation, relative to BERT: one core, mixed lengths, random weights.

There is one for each structure of layers. RoBERTa, XLM-RoBERTa, CamemBERT, DistilBERT and ELECTRA have BERT's; Qwen2,
Llama and Mistral have Qwen3's without norms of queries and keys; llama_bidirec has EuroBERT's, which is Llama's without
causality. The time of a batch is the best of all its runs, in turns: other work on the machine only adds to it.

    python benchmarks/families.py [--precision fp32|int8]      prints a table and keeps results/families-PRECISION.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import numpy as np
import onnxruntime as ort
from conch_export import Precision
from conch_export.build import cpu_graph
from conch_export.model.distances import Alibi, RelativeBias
from conch_export.model.network import (
    Activation,
    Attention,
    Encoder,
    Experts,
    FeedForward,
    Layer,
    Linear,
    Norm,
    RelativePositions,
    Rotary,
    rotary_frequencies,
)
from conch_export.onnx.layout import row_lengths
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.machine import machine
from benchmarks.workloads import lengths

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

HIDDEN, INNER, LAYERS, HEADS, VOCABULARY, LENGTH = 384, 1536, 6, 12, 30522, 512
ROWS, ROUNDS, SECONDS = 8, 7, 0.6
_random = np.random.default_rng(0)


def _linear(inputs: int, outputs: int) -> Linear:
    weight = _random.standard_normal((inputs, outputs)) / np.sqrt(inputs)
    return Linear(weight.astype(np.float32), np.zeros(outputs, np.float32))


def _norm(width: int = HIDDEN, *, rms: bool = False) -> Norm:
    return Norm(np.ones(width, np.float32), None if rms else np.zeros(width, np.float32), 1e-6, rms=rms)


def _bert() -> Encoder:
    def layer() -> Layer:
        query, key, value, output = (_linear(HIDDEN, HIDDEN) for _ in range(4))
        attention = Attention(query, key, value, output, heads=HEADS, key_heads=HEADS)
        network = FeedForward(_linear(HIDDEN, INNER), _linear(INNER, HIDDEN), Activation.GELU)
        return Layer(attention, _norm(), network, _norm())

    words = _random.standard_normal((VOCABULARY, HIDDEN)).astype(np.float32)
    positions = _random.standard_normal((LENGTH, HIDDEN)).astype(np.float32)
    return Encoder(words, tuple(layer() for _ in range(LAYERS)), LENGTH, positions, norm=_norm())


def _gated(layer: Layer, activation: Activation) -> Layer:
    (network,) = layer.feed_forward.networks
    return replace(layer, feed_forward=replace(network, gate=_linear(HIDDEN, INNER), activation=activation))


def _with_experts(layer: Layer) -> Layer:
    networks = [FeedForward(_linear(HIDDEN, INNER), _linear(INNER, HIDDEN), Activation.GELU) for _ in range(8)]
    bias = np.zeros(HIDDEN, np.float32)
    return replace(layer, feed_forward=Experts(_linear(HIDDEN, 8), tuple(networks), chosen=2, bias=bias))


def _changed(layer: Layer, **attention: Any) -> Layer:
    return replace(layer, attention=replace(layer.attention, **attention))


def _as_gemma(layer: Layer, window: int | None) -> Layer:
    """Return Qwen3's layer as EmbeddingGemma has it."""
    post: dict[str, Any] = {"attention_post_norm": _norm(rms=True), "feed_forward_post_norm": _norm(rms=True)}
    return replace(_changed(_gated(layer, Activation.GELU_TANH), causal=False, window=window, scale=256**-0.5), **post)


def encoders() -> dict[str, Encoder]:
    """Return an encoder of every structure, by the family that it is named after, all of the same width and depth."""
    bert = _bert()
    rotary = Rotary.of(rotary_frequencies(10000, HIDDEN // HEADS), LENGTH)
    return {"bert": bert, **_post_norm(bert, rotary), **_pre_norm(bert, rotary)}


def _post_norm(bert: Encoder, rotary: Rotary) -> dict[str, Encoder]:
    """Return those whose norms come after each part, as BERT's do."""
    layers, bias = bert.layers, _relative_bias()
    turned = [_changed(layer, rotary=rotary) for layer in layers]
    gated = [_gated(layer, Activation.GELU) for layer in layers]
    mixed = [_with_experts(layer) if index % 2 else layer for index, layer in enumerate(turned)]

    def of(changed: Iterable[Layer]) -> Encoder:
        return replace(bert, layers=tuple(changed), positions=None)

    return {
        "mpnet": replace(of(_changed(layer, bias=bias) for layer in layers), positions=bert.positions),
        "deberta_v2": of(_as_deberta(layer) for layer in layers),
        "xlm_roberta_flash": of(turned),
        "nomic_bert": of(_gated(layer, Activation.SILU) for layer in turned),
        "nomic_bert with experts": of(mixed),
        "jina_bert": of(_changed(layer, bias=Alibi.of(HEADS)) for layer in gated),
        "gte": of(_changed(layer, rotary=rotary) for layer in gated),
    }


def _pre_norm(bert: Encoder, rotary: Rotary) -> dict[str, Encoder]:
    """Return those whose norms come before each part, and once more at the end."""
    layers, bias = bert.layers, _relative_bias()
    modern = (_as_modernbert(layer, rotary, 64 if index % 3 else None) for index, layer in enumerate(layers))
    qwen = [_as_qwen(layer, rotary) for layer in layers]
    euro = (_changed(layer, causal=False, query_norm=None, key_norm=None) for layer in qwen)
    gemma = (_as_gemma(layer, 128 if index % 6 else None) for index, layer in enumerate(qwen))

    def of(changed: Iterable[Layer], **more: Any) -> Encoder:
        final = replace(bert, layers=tuple(changed), positions=None, norm=None, final_norm=_norm(rms=True))
        return replace(final, **more)

    return {
        "t5": of(_as_t5(layer, bias) for layer in layers),
        "modernbert": of(modern, norm=bert.norm, final_norm=_norm()),
        "qwen3": of(qwen),
        "eurobert": of(euro),
        "gemma3": of(gemma, embedding_scale=HIDDEN**0.5),
    }


def _relative_bias() -> RelativeBias:
    return RelativeBias(_random.standard_normal((HEADS, 257)).astype(np.float32))


def _as_deberta(layer: Layer) -> Layer:
    # All published sizes of DeBERTa have heads of 64.
    heads = HIDDEN // 64
    keys, queries = _random.standard_normal((2, heads, LENGTH + 1, 64)).astype(np.float32)
    return _changed(layer, relative=RelativePositions(keys, queries, _rows()), heads=heads, key_heads=heads)


def _as_t5(layer: Layer, bias: RelativeBias) -> Layer:
    (network,) = layer.feed_forward.networks
    relu = replace(network, activation=Activation.RELU)
    return _before(replace(_changed(layer, bias=bias), feed_forward=relu))


def _as_modernbert(layer: Layer, rotary: Rotary, window: int | None) -> Layer:
    return replace(_changed(_gated(layer, Activation.GELU), rotary=rotary, window=window), pre_norm=True)


def _as_qwen(layer: Layer, rotary: Rotary) -> Layer:
    key, value = (_linear(HIDDEN, HIDDEN // 2) for _ in range(2))
    width = HIDDEN // HEADS
    norms = {"query_norm": _norm(width, rms=True), "key_norm": _norm(width, rms=True)}
    gated = _gated(layer, Activation.SILU)
    return _before(_changed(gated, rotary=rotary, causal=True, key=key, value=value, key_heads=HEADS // 2, **norms))


def _before(layer: Layer) -> Layer:
    """Return the layer with root mean square norms before its parts."""
    return replace(layer, attention_norm=_norm(rms=True), feed_forward_norm=_norm(rms=True), pre_norm=True)


def _rows() -> NDArray[np.int64]:
    """Return a row for every distance, as DeBERTa's logarithmic buckets have about as many as half of the distances."""
    half = LENGTH // 2
    return np.clip(np.arange(-LENGTH, LENGTH + 1), -half, half) + half


def operations(encoder: Encoder, rows: list[int]) -> float:
    """Return multiplications and additions of all matrix products for rows of these lengths, without masked scores."""
    total = 0.0
    for layer in encoder.layers:
        attention, block = layer.attention, layer.feed_forward
        linears = [attention.query, attention.key, attention.value, attention.output]
        # Of experts, as many as a token passes; the router's product is a thousandth of theirs.
        for network in block.networks[: block.chosen if isinstance(block, Experts) else None]:
            linears += [network.up, network.down, *([network.gate] if network.gate else [])]
        total += 2 * sum(rows) * sum(linear.weight.size for linear in linears)
        # Scores and their sums of values; and for relative positions two more products in each score.
        products = 2 if attention.relative is None else 4
        total += sum(2 * products * _seen(attention, row) * attention.heads * attention.head_width for row in rows)
    return total


def _seen(attention: Attention, length: int) -> float:
    """Return the number of pairs of tokens of which one attends to the other."""
    places = np.arange(length)
    distances = places[None, :] - places[:, None]
    seen = np.ones(distances.shape, np.bool_)
    if attention.causal:
        seen &= distances <= 0
    if attention.window is not None:
        seen &= np.abs(distances) <= attention.window
    return float(seen.sum())


@dataclass
class Runner:
    """A graph and its batches, with the seconds that each has taken at best."""

    session: ort.InferenceSession
    feeds: list[dict[str, NDArray[np.int64 | np.int32]]]
    operations: float
    best: list[float] = field(default_factory=list)

    def turn(self) -> None:
        """Run all batches, again and again for some time."""
        begin = time.perf_counter()
        while time.perf_counter() < begin + SECONDS:
            taken, best = list(map(self._seconds, self.feeds)), self.best or [np.inf] * len(self.feeds)
            self.best = list(map(min, taken, best))

    def rate(self) -> float:
        """Return operations per second."""
        return self.operations / sum(self.best)

    def _seconds(self, feed: dict[str, NDArray[np.int64 | np.int32]]) -> float:
        begin = time.perf_counter()
        self.session.run(None, feed)
        return time.perf_counter() - begin


def runner(encoder: Encoder, precision: str, rows: list[int]) -> Runner:
    """The encoder's graph with the rows in batches."""
    batches = [rows[i : i + ROWS] for i in range(0, len(rows), ROWS)]
    feeds = [_feed(batch) for batch in batches]
    graph = cpu_graph(encoder, Precision(precision), feeds)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        session = ort.InferenceSession(graph.save(Path(folder)), options, providers=["CPUExecutionProvider"])
    return Runner(session, feeds, operations(encoder, rows))


def _feed(batch: list[int]) -> dict[str, NDArray[np.int64 | np.int32]]:
    ids = _random.integers(0, VOCABULARY, sum(batch))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), **row_lengths(batch, "attention_mask")}


def main() -> None:
    """Measure in turns, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=("fp32", "int8"), default="int8")
    precision = parser.parse_args().precision
    rows = lengths("mixed", 64)
    runners = {name: runner(encoder, precision, rows) for name, encoder in encoders().items()}
    for _ in range(ROUNDS):
        for each in runners.values():
            each.turn()
    rates = {name: each.rate() for name, each in runners.items()}
    of_bert = {name: rate / rates["bert"] for name, rate in rates.items()}
    table = Table("family", "GOP/s", "of BERT's")
    for name, rate in rates.items():
        table.add_row(name, f"{rate / 1e9:.1f}", f"{of_bert[name]:.2f}")
    Console().print(table)
    result = {
        "command": f"python benchmarks/families.py --precision {precision}",
        "machine": machine(),
        "gop_per_s": {name: rate / 1e9 for name, rate in rates.items()},
        "of_bert": of_bert,
    }
    path = Path(__file__).parent / "results" / f"families-{precision}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
