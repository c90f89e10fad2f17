"""A graph on the disk: a small protobuf, its weights beside it in whole pages, written one at a time."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from conch_export.model.arrays import LazyArray
from conch_export.onnx.builder import GraphBuilder
from conch_export.onnx.graph import Graph
from conch_export.onnx.quantization.calibrate import calibrate
from onnx import TensorProto

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

WIDTH = 160
"""A square matrix of this width is a weight."""


def matrix(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((WIDTH, WIDTH), np.float32) / np.float32(WIDTH**0.5)


def products(weights: list[Any]) -> Graph:
    """One product after the other, a bias in between."""
    g = GraphBuilder()
    x = g.node("Identity", "x")
    for index, weight in enumerate(weights):
        x = g.node("MatMul", x, g.constant(weight, f"w{index}"))
        x = g.node("Add", x, g.constant(np.full(WIDTH, index, np.float32), f"bias{index}"), name=f"y{index}")
    shape: list[int | str] = ["n", WIDTH]
    return Graph.of(g, "test", [("x", TensorProto.FLOAT, shape)], [(x, TensorProto.FLOAT, shape)])


def test_weights_lie_beside_it_in_whole_pages_and_small_constants_inside(tmp_path: Path) -> None:
    path = products([matrix(0), matrix(1)]).save(tmp_path)
    assert path.stat().st_size < 4000
    tensors = {tensor.name: tensor for tensor in onnx.load(path, load_external_data=False).graph.initializer}
    beside = {name for name, tensor in tensors.items() if tensor.data_location == TensorProto.EXTERNAL}
    assert beside == {"w0", "w1"}
    for name in beside:
        place = {entry.key: entry.value for entry in tensors[name].external_data}
        assert place["location"] == "model.data"
        assert int(place["offset"]) % 4096 == 0
        assert int(place["length"]) == 4 * WIDTH * WIDTH


def test_a_graph_without_weights_is_one_file(tmp_path: Path) -> None:
    products([]).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_each_weight_is_let_go_before_the_next_is_read(tmp_path: Path) -> None:
    alive: list[weakref.ref[Any]] = []

    def read(seed: int) -> np.ndarray[Any, Any]:
        assert not any(reference() is not None for reference in alive)
        alive.append(weakref.ref(made := matrix(seed)))
        return made

    shape = (WIDTH, WIDTH)
    lazy = [LazyArray(shape, lambda seed=seed: read(seed)) for seed in range(6)]  # type: ignore[misc]
    graph = products(lazy)
    assert not alive
    graph.save(tmp_path)
    assert len(alive) == 6


def test_what_is_loaded_has_the_same_numbers_and_is_saved_as_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    loaded = Graph.load(products([matrix(0), matrix(1)]).save(first))
    np.testing.assert_array_equal(np.asarray(loaded.weights["w1"]), matrix(1))
    loaded.save(second)
    for file in ("model.onnx", "model.data"):
        assert (first / file).read_bytes() == (second / file).read_bytes()


def test_products_observed_a_few_at_a_time_are_rounded_as_if_all_had_been_observed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = products([matrix(index) for index in range(9)])
    random = np.random.default_rng(0)
    feeds = [{"input_ids": np.arange(50), "x": random.standard_normal((50, WIDTH), np.float32)} for _ in range(3)]
    in_parts = calibrate(graph, feeds)
    monkeypatch.setattr("conch_export.onnx.quantization.calibrate._INPUTS_AT_A_TIME", 100)
    at_once = calibrate(graph, feeds)
    assert set(in_parts) == set(at_once) == {f"w{index}" for index in range(9)}
    for name, (scheme, rounding) in at_once.items():
        assert in_parts[name][0].zero_point == scheme.zero_point
        np.testing.assert_allclose(in_parts[name][1].scales, rounding.scales, rtol=1e-4)
        np.testing.assert_allclose(in_parts[name][1].correction, rounding.correction, atol=1e-4)
