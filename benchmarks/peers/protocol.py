"""Protocol of worker processes: a JSON line in, a JSON line out.

Peers import it in their own environments, so it needs nothing but numpy.

    {"op": "measure", "workload": PATH, "seconds": 4}        -> {"texts", "tokens", "seconds", "errors", "latency_ms"}
    {"op": "embed", "workload": PATH, "count": 32}           -> {"vectors": [[...], ...]}
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


class Item(NamedTuple):
    """One text and its token ids, special tokens included."""

    text: str
    ids: list[int]


class Model(Protocol):
    """A way to compute vectors in this process."""

    def prepare(self, items: Sequence[Item]) -> Any:
        """Return the input of `run`; not part of the measured time."""

    def run(self, prepared: Any) -> NDArray[np.float32]:
        """float32 [items, dimension], each of length 1."""


class Worker(Protocol):
    """The calls that `serve` makes."""

    def measure(self, items: Sequence[Item], seconds: float) -> dict[str, Any]:
        """Compute for about that many seconds."""

    def embed(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The vectors of these items."""


class InProcess:
    """Batches of one size, one after another.

    Args:
        model: what computes a batch.
        batch: texts in one.
        index: number of this process among those that share the workload.
        count: how many they are.
    """

    def __init__(self, model: Model, batch: int, index: int = 0, count: int = 1) -> None:
        self._model, self._batch, self._index, self._count = model, batch, index, count

    def embed(self, items: Sequence[Item]) -> NDArray[np.float32]:
        return np.concatenate([self._model.run(self._model.prepare(batch)) for batch in batches(items, self._batch)])

    def measure(self, items: Sequence[Item], seconds: float) -> dict[str, Any]:
        mine = batches(items[self._index :: self._count], self._batch)
        prepared = [self._model.prepare(batch) for batch in mine]
        self._model.run(prepared[0])
        took: list[float] = []
        began = now = time.perf_counter()
        while not took or now - began < seconds:
            start = now
            self._model.run(prepared[len(took) % len(mine)])
            now = time.perf_counter()
            took.append(now - start)
        done = [mine[run % len(mine)] for run in range(len(took))]
        return report([item for batch in done for item in batch], now - began, took)


def batches(items: Sequence[Item], size: int) -> list[list[Item]]:
    """The items in lists of this size; the last may be shorter."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def report(done: Sequence[Item], seconds: float, latencies_s: Sequence[float]) -> dict[str, Any]:
    """The answer to `measure`."""
    return {
        "texts": len(done),
        "tokens": sum(len(item.ids) for item in done),
        "seconds": seconds,
        "errors": 0,
        "latency_ms": {f"p{p}": float(np.percentile(latencies_s, p) * 1e3) for p in (50, 95, 99)},
    }


def padded(items: Sequence[Item]) -> dict[str, NDArray[np.int64]]:
    """The items as the matrices that BERT takes: int64 [rows, longest]."""
    ids = np.zeros((len(items), max(len(item.ids) for item in items)), np.int64)
    mask = np.zeros_like(ids)
    for row, item in enumerate(items):
        ids[row, : len(item.ids)], mask[row, : len(item.ids)] = item.ids, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def mean_pooled(hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """float32 [rows, length, hidden] to unit vectors [rows, hidden], padding left out; scores [rows, 1] as they are."""
    if hidden.ndim == 2:
        return hidden
    sums = np.einsum("rlh,rl->rh", hidden, mask.astype(np.float32))
    return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), np.float32)


def load_items(path: str | Path) -> list[Item]:
    """A workload's file."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    return [Item(text, ids) for text, ids in zip(content["texts"], content["ids"])]  # noqa: B905 - equal by making


def serve(make: Callable[[], Worker]) -> None:
    """Say ready, then answer until standard input ends. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker = make()
    items: dict[str, list[Item]] = {}
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            path = asked["workload"]
            items[path] = items.get(path) or load_items(path)
            answer = _answer(worker, items[path], asked)
        except Exception as error:  # noqa: BLE001 - any error of a peer is its result
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def _answer(worker: Worker, items: Sequence[Item], asked: dict[str, Any]) -> dict[str, Any]:
    if asked["op"] == "embed":
        return {"vectors": worker.embed(items[: asked["count"]]).tolist()}
    return worker.measure(items, asked["seconds"])
