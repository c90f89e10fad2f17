"""Rows laid out as Triton merges requests, and published graphs run on them in process."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from conch_export.onnx.layout import head_lengths, row_lengths
from hypothesis import strategies as st
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conch_export.onnx.graph import Graph
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Request:
    """What one client sends: INT64 [rows, length] each; the mask is 0 at pads."""

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    types: NDArray[np.int64]


def padded(
    rows: Sequence[Sequence[int]],
    *,
    length: int | None = None,
    before: Sequence[int] | None = None,
    fill: int = 0,
    types: Sequence[Sequence[int]] | None = None,
) -> Request:
    """A request of these rows, `before[i]` pads to the left of row i and the others to its right."""
    length = length or max(map(len, rows))
    ids = np.full((len(rows), length), fill, np.int64)
    mask, kinds = np.zeros_like(ids), np.zeros_like(ids)
    for index, row in enumerate(rows):
        begin = before[index] if before else 0
        place = slice(begin, begin + len(row))
        ids[index, place], mask[index, place] = row, 1
        kinds[index, place] = types[index] if types else 0
    return Request(ids, mask, kinds)


@dataclass(frozen=True)
class Layout:
    """Texts, and one way of sending them.

    Attributes:
        rows: token ids of every text.
        requests: what is sent, and the texts in it by index.
    """

    rows: list[list[int]]
    requests: list[tuple[list[int], Request]]


@st.composite
def layouts(draw: Callable[[Any], Any], vocabulary: int, most: int = 40) -> Layout:
    """Any texts in any order, cut into requests anywhere, with any padding on either side."""
    texts = st.lists(st.integers(0, vocabulary - 1), min_size=1, max_size=most)
    rows = draw(st.lists(texts, min_size=1, max_size=9))
    order = draw(st.permutations(range(len(rows))))
    cuts = sorted(draw(st.sets(st.integers(1, len(rows)))) | {0, len(rows)})
    requests = []
    for begin, end in itertools.pairwise(cuts):
        chosen = list(order[begin:end])
        length = max(len(rows[i]) for i in chosen) + draw(st.integers(0, 5))
        before = [draw(st.integers(0, length - len(rows[i]))) for i in chosen]
        fill = draw(st.sampled_from([0, 1, -1, 10**9]))
        requests.append((chosen, padded([rows[i] for i in chosen], length=length, before=before, fill=fill)))
    return Layout(rows, requests)


@dataclass(frozen=True)
class Published:
    """One exported model on disk."""

    repository: Path
    name: str

    @property
    def encoder(self) -> Path:
        """The graph of the encoder."""
        return self.repository / f"{self.name}.encoder" / "1" / "model.onnx"

    @cached_property
    def embedder(self) -> Graphs:
        """The encoder and the pooling."""
        return self._graphs(f"{self.name}.pooling")

    @cached_property
    def classifier(self) -> Graphs:
        """The encoder and the classifier."""
        return self._graphs(f"{self.name}.classifier")

    @cached_property
    def maxsim(self) -> Graphs:
        """The encoder and MaxSim."""
        return self._graphs(f"{self.name}-maxsim.maxsim")

    def _graphs(self, head: str) -> Graphs:
        paths = (self.repository / model / "1" / "model.onnx" for model in (f"{self.name}.encoder", head))
        return Graphs(*(session(path) for path in paths))


@dataclass(frozen=True)
class Graphs:
    """An encoder and a head, fed as Triton's ragged batching feeds them."""

    encoder: ort.InferenceSession
    head: ort.InferenceSession

    def __call__(self, *requests: Request) -> list[Floats]:
        """The requests merged into one run: FP32 [rows, ...] for each."""
        feed = _feed(requests)
        tokens = _run(self.encoder, feed)
        merged = _run(self.head, {**feed, **vectors_for(feed, tokens)})
        ends = np.cumsum([len(request.ids) for request in requests])
        return np.split(merged, ends[:-1])

    def alone(self, row: Sequence[int]) -> Floats:
        """One text without padding or company."""
        vector: Floats = self(padded([row]))[0][0]
        return vector


def whole(graph: Graph) -> onnx.ModelProto:
    """A graph with its weights inside, for what reads no file."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for tensor in model.graph.initializer:
        if tensor.name in graph.weights:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(graph.weights[tensor.name]), tensor.name))
    return model


def session(model: Path | Graph) -> ort.InferenceSession:
    """A graph on one thread."""
    content = model if isinstance(model, Path) else whole(model).SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _feed(requests: Sequence[Request]) -> dict[str, NDArray[Any]]:
    lengths = [request.ids.shape[1] for request in requests for _ in request.ids]
    return {
        "input_ids": np.concatenate([request.ids.ravel() for request in requests]),
        "attention_mask": np.concatenate([request.mask.ravel() for request in requests]),
        "token_type_ids": np.concatenate([request.types.ravel() for request in requests]),
        **row_lengths(lengths, "attention_mask", "token_type_ids"),
        "request_elements": np.array([request.ids.size for request in requests], np.int32),
    }


def vectors_for(feed: dict[str, NDArray[Any]], tokens: Floats) -> dict[str, NDArray[Any]]:
    """What heads take beside the encoder's inputs: FP32 [N, hidden] and the lengths."""
    return {"token_embeddings": tokens.ravel(), **head_lengths(feed["row_lengths"].tolist(), tokens.shape[1])}


def _run(graph: ort.InferenceSession, feed: dict[str, NDArray[Any]]) -> Floats:
    result: Floats = graph.run(None, {tensor.name: feed[tensor.name] for tensor in graph.get_inputs()})[0]
    return result
