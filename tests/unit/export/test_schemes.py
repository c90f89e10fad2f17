"""How numbers are rounded to 8 bits: what is lost is bounded, and no token's rounding depends on another's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from conch_export.onnx.builder import GraphBuilder
from conch_export.onnx.graph import Graph
from conch_export.onnx.quantization.calibrate import calibrate
from conch_export.onnx.quantization.quantize import quantize
from conch_export.onnx.quantization.schemes import Int8Weight, Samples, Scheme, choose, to_int8
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from tests.merging import session, whole

if TYPE_CHECKING:
    from tests.merging import Floats

examples = settings(max_examples=30)
SCHEMES = {
    "fixed": Scheme(None, 0.05, 100),
    "smoothed": Scheme(np.linspace(0.5, 2, 16, dtype=np.float32), 0.05, 100),
    "per token": Scheme(None, None, 128, floor=1e-8),
    "per token, bounded below": Scheme(None, None, 32, floor=0.2 / 32),
}
every_scheme = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def as_rounded(weight: Floats, scheme: Scheme, rounding: Int8Weight) -> Floats:
    rounded: Floats = to_int8(weight, scheme, rounding.scales) * rounding.scales
    return rounded


def samples_of(tokens: Floats) -> Samples:
    return Samples(tokens, tokens.min(axis=0), tokens.max(axis=0))


@every_scheme
@examples
@given(seed=st.integers(0, 2**31), size=st.floats(1e-3, 2.0))
def test_rounding_loses_half_a_step_at_most(scheme: Scheme, seed: int, size: float) -> None:
    x = np.clip(normal(seed, 20, 16) * np.float32(size), -5 * size, 5 * size)
    if scheme.zero_point < 100:  # for values that are bounded below, as those after GELU
        x = np.maximum(x, -0.2).astype(np.float32)
    smoothed = x if scheme.smoothing is None else x / scheme.smoothing
    largest = np.abs(x).max(axis=1, keepdims=True) if scheme.is_symmetric else x.max(axis=1, keepdims=True)
    steps = np.maximum(largest / scheme.reach, scheme.floor) if scheme.scale is None else scheme.scale
    inside = np.abs(smoothed) <= 4 if scheme.scale is not None else np.ones_like(x, bool)
    assert (np.abs(scheme.round(x) - smoothed) <= steps / 2 * 1.001)[inside].all()


@every_scheme
@examples
@given(seed=st.integers(0, 2**31), others=st.integers(0, 30))
def test_a_token_is_rounded_alike_in_any_company(scheme: Scheme, seed: int, others: int) -> None:
    token, company = normal(seed, 1, 16), normal(seed + 1, others, 16) * 100
    np.testing.assert_array_equal(scheme.round(np.concatenate([token, company]))[:1], scheme.round(token))


@every_scheme
def test_a_token_of_zeros_stays_zeros(scheme: Scheme) -> None:
    assert not scheme.round(np.zeros((1, 16), np.float32)).any()


@examples
@given(seed=st.integers(0, 2**31), largest=st.floats(0, 1000))
def test_a_skewed_scheme_never_cuts_what_lies_above_the_lowest_value_seen(seed: int, largest: float) -> None:
    scheme = SCHEMES["per token, bounded below"]
    x = np.random.default_rng(seed).uniform(-0.2, largest, (10, 16)).astype(np.float32)
    steps = np.maximum(x.max(axis=1, keepdims=True) / scheme.reach, scheme.floor)
    assert (np.abs(scheme.round(x) - x) <= steps / 2 * 1.001).all()


@pytest.mark.parametrize(
    "tokens",
    [
        pytest.param(normal(1, 400, 32), id="even"),
        pytest.param(normal(2, 400, 32) * np.geomspace(0.01, 30, 32, dtype=np.float32), id="uneven channels"),
        pytest.param(normal(3, 400, 32) * np.geomspace(0.01, 30, 400, dtype=np.float32)[:, None], id="uneven tokens"),
        pytest.param(np.maximum(normal(4, 400, 32), -0.17), id="bounded below"),
        pytest.param(np.abs(normal(5, 400, 32)), id="positive"),
        pytest.param(np.zeros((400, 32), np.float32), id="zeros"),
    ],
)
def test_the_chosen_scheme_is_close_and_its_correction_centres_what_is_lost(tokens: Floats) -> None:
    weights = {"a": normal(6, 32, 24), "b": normal(7, 32, 8)}
    scheme, rounded = choose(samples_of(tokens), weights)
    for name, weight in weights.items():
        expected = tokens @ weight
        product = scheme.round(tokens) @ as_rounded(weight, scheme, rounded[name])
        lost, corrected = expected - product, expected - product - rounded[name].correction
        assert np.sqrt(np.square(lost).mean()) <= 0.03 * np.sqrt(np.square(expected).mean()) + 1e-6
        assert np.abs(corrected.mean(axis=0)).max() <= np.abs(lost.mean(axis=0)).max() + 1e-6
        assert np.abs(corrected.mean(axis=0)).max() < 1e-4 * max(1.0, np.abs(expected).max())


@examples
@given(seed=st.integers(0, 2**31))
def test_a_weight_is_rounded_to_a_fraction_of_its_columns_largest_value(seed: int) -> None:
    weight = normal(seed, 40, 6) * np.geomspace(1e-4, 1e4, 6, dtype=np.float32)
    weight[:, 2] = 0
    scheme, rounded = choose(samples_of(normal(seed + 1, 50, 40)), {"w": weight})
    smoothed = weight if scheme.smoothing is None else weight * scheme.smoothing[:, None]
    error = np.abs(as_rounded(weight, scheme, rounded["w"]) - smoothed)
    assert np.isfinite(rounded["w"].scales).all()
    assert (rounded["w"].scales > 0).all()
    assert not as_rounded(weight, scheme, rounded["w"])[:, 2].any()
    assert (np.median(error, axis=0) <= np.abs(smoothed).max(axis=0) / 254 * 1.001).all()


def lookup_and_product(table: Floats, weight: Floats, bias: Floats) -> Graph:
    """Ids to rows of a table, a product and a bias: the smallest graph that has all of what is rewritten."""
    g = GraphBuilder()
    x = g.node("Gather", g.constant(table, "table"), "input_ids", name="x")
    g.node("Add", g.node("MatMul", x, g.constant(weight, "w")), g.constant(bias, "bias"), name="y")
    shape = [("input_ids", TensorProto.INT64, ["n"])]
    return Graph.of(g, "test", shape, [("y", TensorProto.FLOAT, ["n", weight.shape[1]])])


def test_a_large_table_loses_half_a_step_of_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conch_export.onnx.quantization.quantize.TABLE_ELEMENTS", 100)
    table = normal(8, 50, 16) * np.geomspace(1e-6, 1e3, 50, dtype=np.float32)[:, None]
    table[7] = 0
    graph = quantize(lookup_and_product(table, np.eye(16, dtype=np.float32), np.zeros(16, np.float32)), {})
    served = session(graph).run(None, {"input_ids": np.arange(50)})[0]
    assert (np.abs(served - table) <= np.abs(table).max(axis=1, keepdims=True) / 254 * 1.001).all()
    assert "table" not in {tensor.name for tensor in graph.model.graph.initializer}


@pytest.mark.parametrize("skew", [0.0, 2.0], ids=["centred", "skewed"])
def test_a_quantized_graph_computes_what_the_scheme_says(skew: float) -> None:
    table, weight, bias = normal(9, 300, 16) + np.float32(skew), normal(10, 16, 12), normal(11, 12)
    graph = lookup_and_product(table, weight, bias)
    ids = np.arange(300)
    chosen = calibrate(graph, [{"input_ids": ids}])
    scheme, rounded = chosen["w"]
    expected = scheme.round(table) @ as_rounded(weight, scheme, rounded) + bias + rounded.correction

    served = session(quantize(graph, chosen)).run(None, {"input_ids": ids})[0]

    # Where a value lies just between two steps, single precision may take the other one.
    assert np.median(np.abs(served - expected)) < 1e-5
    np.testing.assert_allclose(served, table @ weight + bias, atol=0.2)
    assert abs(float((served - (table @ weight + bias)).mean())) < 1e-3


def test_products_that_share_a_bias_are_each_corrected_by_their_own_error() -> None:
    table, bias = np.abs(normal(15, 300, 16)), normal(16, 12)
    weights = {name: normal(seed, 16, 12) for seed, name in enumerate(("u", "v"), 17)}
    g = GraphBuilder()
    x = g.node("Gather", g.constant(table, "table"), "input_ids", name="x")
    for name, weight in weights.items():
        g.node("Add", g.node("MatMul", x, g.constant(weight, name)), g.constant(bias, "bias"), name=f"{name}.y")
    shape: list[int | str] = ["n", 12]
    outputs = [(f"{name}.y", TensorProto.FLOAT, shape) for name in weights]
    graph = Graph.of(g, "test", [("input_ids", TensorProto.INT64, ["n"])], outputs)
    ids = np.arange(300)
    served = session(quantize(graph, calibrate(graph, [{"input_ids": ids}]))).run(None, {"input_ids": ids})
    for found, weight in zip(served, weights.values(), strict=True):
        lost = (found - (table @ weight + bias)).mean(axis=0)
        np.testing.assert_allclose(lost, 0, atol=1e-4)


def test_the_given_graph_is_left_as_it_is() -> None:
    graph = lookup_and_product(normal(12, 30, 16), normal(13, 16, 4), normal(14, 4))
    before = whole(graph).SerializeToString(deterministic=True)
    quantize(graph, calibrate(graph, [{"input_ids": np.arange(30)}]))
    assert whole(graph).SerializeToString(deterministic=True) == before
