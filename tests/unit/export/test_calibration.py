"""Calibration: what the choice of a rounding is based on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest
from conch_export.model.heads import Vocabulary
from conch_export.onnx.builder import GraphBuilder
from conch_export.onnx.engine import Row, head_feed
from conch_export.onnx.graph import Graph
from conch_export.onnx.heads import vocabulary_graph
from conch_export.onnx.quantization import calibrate as calibration
from conch_export.onnx.quantization.quantize import quantize
from conch_export.onnx.quantization.schemes import choose
from onnx import TensorProto

from tests.random_weights import linear

if TYPE_CHECKING:
    from pathlib import Path

    from conch_export.onnx.quantization.schemes import Samples

    from tests.merging import Floats

HIDDEN = 96


def test_a_head_behind_an_encoder_is_calibrated_on_about_a_thousand_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    def counted(samples: Samples, *others: Any, **options: Any) -> Any:
        counts.append(len(samples.tokens))
        return choose(samples, *others, **options)

    monkeypatch.setattr(calibration, "choose", counted)
    head = vocabulary_graph(HIDDEN, Vocabulary((), linear(HIDDEN, 50)), tile_tokens=None)
    rows = [Row(list(range(length)), [0] * length) for length in range(30, 90)]
    random = np.random.default_rng(0)
    known = [head_feed([row], random.standard_normal((len(row.ids), HIDDEN), np.float32)) for row in rows]
    feeds = [{name: feed[name] for name in sorted(feed, reverse=True)} for feed in known]  # in whatever order

    calibration.calibrate(head, feeds)

    assert counts == [pytest.approx(1024, rel=0.2)]


def two_layers_of_one_matrix(weight: Floats) -> Graph:
    """The second layer's input is bounded, the first's is not."""
    g = GraphBuilder()
    first = g.node("MatMul", g.node("Identity", "x"), g.constant(weight, "shared"), name="first")
    second = g.node("MatMul", g.node("Tanh", first), g.constant(weight, "shared"), name="second")
    shape: list[int | str] = ["n", HIDDEN]
    outputs = [(name, TensorProto.FLOAT, shape) for name in (first, second)]
    return Graph.of(g, "test", [("x", TensorProto.FLOAT, shape)], outputs)


def test_a_matrix_that_layers_share_is_rounded_for_the_inputs_of_all(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    graph = two_layers_of_one_matrix(random.standard_normal((HIDDEN, HIDDEN), np.float32) / np.float32(HIDDEN**0.5))
    tokens = 4 * random.standard_normal((2000, HIDDEN), np.float32)
    chosen = calibration.calibrate(graph, [{"input_ids": np.arange(2000), "x": tokens}], per_token=False)

    (tmp_path / "int8").mkdir()
    paths = graph.save(tmp_path), quantize(graph, chosen).save(tmp_path / "int8")
    exact, rounded = (ort.InferenceSession(path).run(None, {"x": tokens}) for path in paths)

    for expected, found in zip(exact, rounded, strict=True):
        assert np.sqrt(np.square(found - expected).mean() / np.square(expected).mean()) < 0.1
