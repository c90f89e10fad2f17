"""A text's vector or score is its own: the order, the split, the padding and the company of texts change nothing."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest
from conch_contract import encoder_name
from conch_export import public_name
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.families import bert
from conch_export.onnx.encoder import encoder_graph
from conch_export.onnx.engine import EncoderGraph, Row
from conch_export.onnx.layout import row_lengths
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.exports import export_once, minilm
from tests.merging import Graphs, Layout, layouts, padded, session, whole

if TYPE_CHECKING:
    from pathlib import Path

    from tests.checkpoints import Checkpoints
    from tests.integration.export.conftest import Exports

VOCABULARY = 600
TOLERANCE = {"fp32": 1e-6, "int8": 2e-6}
both_precisions = pytest.mark.parametrize("precision", ["fp32", "int8"])
examples = settings(max_examples=25)


def assert_each_as_alone(graphs: Graphs, layout: Layout, tolerance: float) -> None:
    merged = graphs(*(request for _, request in layout.requests))
    for (chosen, _), answers in zip(layout.requests, merged, strict=True):
        alone = [graphs.alone(layout.rows[index]) for index in chosen]
        np.testing.assert_allclose(answers, alone, rtol=0, atol=tolerance)


@both_precisions
@pytest.mark.parametrize("kind", ["bert", "xlm_roberta", "electra", "roformer"])
@examples
@given(layout=layouts(VOCABULARY))
def test_an_embedding_depends_on_nothing_but_its_text(
    exports: Exports, kind: str, precision: str, layout: Layout
) -> None:
    assert_each_as_alone(exports(kind, precision).embedder, layout, TOLERANCE[precision])


@pytest.mark.parametrize("pooling", ["cls", "max", "last"])
@examples
@given(layout=layouts(VOCABULARY))
def test_that_holds_for_every_pooling(exports: Exports, pooling: str, layout: Layout) -> None:
    assert_each_as_alone(exports("bert", pooling=pooling).embedder, layout, TOLERANCE["fp32"])


@both_precisions
@pytest.mark.parametrize("kind", ["bert_cross_encoder", "xlm_roberta_cross_encoder"])
@examples
@given(layout=layouts(VOCABULARY))
def test_a_pairs_score_depends_on_nothing_but_the_pair(
    exports: Exports, kind: str, precision: str, layout: Layout
) -> None:
    graphs = exports(kind, precision).classifier
    size = max(1.0, *(float(np.abs(graphs.alone(row)).max()) for row in layout.rows))
    assert_each_as_alone(graphs, layout, TOLERANCE[precision] * size)


@both_precisions
@examples
@given(layout=layouts(VOCABULARY))
def test_merged_late_interaction_requests_score_as_each_alone(exports: Exports, precision: str, layout: Layout) -> None:
    graphs = exports("bert", precision).maxsim
    requests = [request for _, request in layout.requests]
    for request, scores in zip(requests, graphs(*requests), strict=True):
        np.testing.assert_allclose(scores, graphs(request)[0], rtol=0, atol=TOLERANCE[precision])


@cache
def computing_in_chunks(folder: Path, tokens: int | None) -> ort.InferenceSession:
    checkpoint = Checkpoint(folder)
    encoder = bert.FAMILY.read_encoder(checkpoint.config, checkpoint.weights)
    return session(encoder_graph(encoder, chunk_tokens=tokens))


@examples
@given(layout=layouts(VOCABULARY, most=60), chunk_tokens=st.sampled_from([1, 7, 16, 64]))
def test_computing_in_chunks_changes_nothing(checkpoints: Checkpoints, layout: Layout, chunk_tokens: int) -> None:
    at_once, chunked = (computing_in_chunks(checkpoints.bert(), size) for size in (None, chunk_tokens))
    request = padded(layout.rows)
    feed: dict[str, Any] = {
        "input_ids": request.ids.ravel(),
        "attention_mask": request.mask.ravel(),
        **row_lengths([request.ids.shape[1]] * len(request.ids), "attention_mask"),
    }
    np.testing.assert_allclose(chunked.run(None, feed)[0], at_once.run(None, feed)[0], rtol=0, atol=1e-5)


@both_precisions
def test_one_token_and_the_longest_row_can_share_a_run(exports: Exports, precision: str) -> None:
    graphs = exports("bert", precision).embedder
    rows = [[7], list(range(128)), [9, 9], list(range(300, 428))]
    together = np.concatenate(graphs(*(padded([row], length=128) for row in rows)))
    np.testing.assert_allclose(together, [graphs.alone(row) for row in rows], rtol=0, atol=TOLERANCE[precision])


def test_any_mask_but_0_marks_a_real_token(exports: Exports) -> None:
    graphs = exports("bert").embedder
    request = padded([[5, 6, 7]], length=5, before=[1])
    np.testing.assert_array_equal(
        graphs(type(request)(request.ids, request.mask * 3, request.types))[0][0], graphs.alone([5, 6, 7])
    )


def test_no_pad_token_reaches_a_matrix_product(checkpoints: Checkpoints) -> None:
    checkpoint = Checkpoint(checkpoints.bert())
    encoder = bert.FAMILY.read_encoder(checkpoint.config, checkpoint.weights)
    graph = whole(encoder_graph(encoder, chunk_tokens=None))
    fed = {node.input[0] for node in graph.graph.node if node.op_type == "MatMul"}
    graph.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in sorted(fed))
    inner = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])

    ids = np.array([101, 7592, 102, 0, 0, 0, 0, 0, 101, 102, 0, 0], np.int64)
    mask = (ids != 0).astype(np.int64)
    rows = {"input_ids": ids, "attention_mask": mask, **row_lengths([8, 4], "attention_mask")}
    assert {values.shape[0] for values in inner.run(sorted(fed), rows)} == {5}


@both_precisions
def test_no_bit_depends_on_the_number_of_threads(tmp_path: Path, precision: str) -> None:
    # Of true size: onnxruntime does not divide small products.
    export_once(options := minilm(tmp_path, precision))
    path = tmp_path / encoder_name(public_name(options)) / "1" / "model.onnx"
    alone, *others = (EncoderGraph(path, threads) for threads in (1, 2, 5))
    ids = np.random.default_rng(0).integers(1000, 30000, 300).tolist()
    for texts in ([ids[:256]], [ids[:100]], [ids[:17]], [ids[:200], ids[200:]]):
        rows = [Row(text, [0] * len(text)) for text in texts]
        expected = alone(rows)
        for graph in others:
            np.testing.assert_array_equal(graph(rows), expected)
