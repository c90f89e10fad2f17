"""A chunk's vector is the mean over its tokens of one pass over the whole text, as its authors define late chunking."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from conch_export import Options, Overrides, Precision, UnsupportedError, export
from conch_export.model.description import Pooling
from conch_export.model.heads import Dense, Pooled
from conch_export.model.network import Linear
from conch_export.onnx.engine import EncoderGraph, HeadGraph, Row, head_feed
from conch_export.onnx.heads import chunks_graph
from conch_export.onnx.layout import CHUNK_ENDS, lengths_name
from sentence_transformers import SentenceTransformer

from tests import head_checkpoints
from tests.exports import export_once

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

IDENTITY = "torch.nn.modules.linear.Identity"
random = np.random.default_rng(0)
ENDS = [(3,), (1, 2, 120), (17,), (1,), (30, 64), (10, 20, 30, 40, 50, 60, 65), (1, 2)]
ROWS = [Row(random.integers(999, 30000, ends[-1]).tolist(), [0] * ends[-1], chunk_ends=ends) for ends in ENDS]


@torch.inference_mode()
def expected(model: Any, row: Row) -> Floats:
    """Sum of a span's token vectors by their number (jina-ai/late-chunking), then the layers after the pooling."""
    features = {"input_ids": torch.tensor([row.ids]), "attention_mask": torch.ones(1, len(row.ids), dtype=torch.int64)}
    tokens = model[0](features)["token_embeddings"][0]
    found = []
    for begin, end in pairwise((0, *row.chunk_ends)):
        pooled = {"sentence_embedding": tokens[begin:end].sum(dim=0)[None] / (end - begin)}
        for module in list(model)[2:]:
            pooled = module(pooled)
        found.append(pooled["sentence_embedding"])
    return np.asarray(torch.cat(found).numpy())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_vectors_are_those_of_its_authors(tmp_path: Path, precision: str) -> None:
    checkpoint = head_checkpoints.with_dense(tmp_path / "dense", IDENTITY)
    chunked = Overrides(late_chunking=True)
    export_once(Options(str(checkpoint), tmp_path / "models", precision=Precision(precision), overrides=chunked))
    tokens = EncoderGraph(tmp_path / "models" / "dense.encoder" / "1" / "model.onnx")(ROWS)
    found = HeadGraph(tmp_path / "models" / "dense-chunks.chunks" / "1" / "model.onnx")(ROWS, tokens)["embeddings"]
    model = SentenceTransformer(str(checkpoint), device="cpu")
    right = np.concatenate([expected(model, row) for row in ROWS])
    assert found.shape == right.shape == (sum(map(len, ENDS)), 16)
    if precision == "fp32":
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-5)
    assert (found * right).sum(axis=1).mean() > 0.99
    whole = HeadGraph(tmp_path / "models" / "dense.pooling" / "1" / "model.onnx")(ROWS, tokens)["embedding"]
    np.testing.assert_array_equal(found[[0, 4]], whole[[0, 2]])  # a text that is one chunk


@pytest.fixture
def answer(tmp_path: Path) -> Callable[..., Floats]:
    """The vectors of the chunks of three rows, of which the second has these ends."""
    layer = Linear(random.standard_normal((8, 5), np.float32))
    graph = chunks_graph(8, Pooled(Pooling.MEAN, (Dense(layer),)), 5)
    session = ort.InferenceSession(graph.save(tmp_path), providers=["CPUExecutionProvider"])
    lengths, vectors = (3, 5, 4), random.standard_normal((12, 8)).astype(np.float32)

    def answer(ends: Sequence[int]) -> Floats:
        chunks = zip(lengths, [(1, 3), tuple(ends), (2, 3, 4)], strict=True)
        rows = [Row([7] * length, [0] * length, chunk_ends=each) for length, each in chunks]
        feed = head_feed(rows, vectors)
        found: Floats = session.run(None, {tensor.name: feed[tensor.name] for tensor in session.get_inputs()})[0]
        return found

    return answer


@pytest.mark.parametrize(
    ("ends", "refused"),
    [
        ((2, 5), []),
        ((2, 0, 0), [1, 2]),
        ((2, 2, 5), [1]),
        ((2, 6), [1]),
        ((4, 2, 5), [1]),
        ((-1, 2), [0, 1]),
        ((2**62, 2**63 - 1), [0, 1]),
        ((-(2**63), 5), [0, 1]),
        ((0,), [0]),
        ((), []),
    ],
    ids=str,
)
def test_a_chunk_that_is_none_is_nan_and_harms_no_other(
    answer: Callable[..., Floats], ends: tuple[int, ...], refused: list[int]
) -> None:
    good, found = answer((2, 5)), answer(ends)
    assert len(found) == 2 + len(ends) + 3
    np.testing.assert_array_equal(found[:2], good[:2])
    np.testing.assert_array_equal(found[-3:], good[-3:])
    assert np.flatnonzero(np.isnan(found[2:-3]).any(axis=1)).tolist() == refused
    assert np.isnan(found).any(axis=1).tolist() == np.isnan(found).all(axis=1).tolist()


def test_no_chunk_at_all_is_no_vector(tmp_path: Path) -> None:
    graph = chunks_graph(8, Pooled(Pooling.MEAN), 8)
    session = ort.InferenceSession(graph.save(tmp_path), providers=["CPUExecutionProvider"])
    feed = head_feed([Row([7] * 3, [0] * 3)], np.ones((3, 8), np.float32))
    feed |= {CHUNK_ENDS: np.zeros(0, np.int64), lengths_name(CHUNK_ENDS): np.zeros(1, np.int32)}
    (found,) = session.run(None, {tensor.name: feed[tensor.name] for tensor in session.get_inputs()})
    assert found.shape == (0, 8)


@pytest.mark.parametrize("pooling", ["cls", "lasttoken", "weightedmean"])
def test_another_pooling_is_refused_by_name(tmp_path: Path, pooling: str) -> None:
    checkpoint = head_checkpoints.with_dense(tmp_path / "dense", IDENTITY, pooling=pooling)
    with pytest.raises(
        UnsupportedError, match=r"--late-chunking needs a model that pools by the mean, .* pools by \w+"
    ):
        export(Options(str(checkpoint), tmp_path / "models", overrides=Overrides(late_chunking=True)))


def test_it_is_for_embedding_models(tmp_path: Path) -> None:
    checkpoint = head_checkpoints.make(tmp_path / "scores", "bert", "ForSequenceClassification", num_labels=1)
    with pytest.raises(UnsupportedError, match="--late-chunking is for embedding models"):
        export(Options(str(checkpoint), tmp_path / "models", overrides=Overrides(late_chunking=True)))
