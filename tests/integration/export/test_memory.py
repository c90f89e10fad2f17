"""The memory that is planned is the memory that is taken, within a quarter, for any shape, precision and length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conch_export import Capacity, Precision
from conch_export.model.distances import Alibi
from conch_export.model.network import (
    Activation,
    Attention,
    Encoder,
    FeedForward,
    Layer,
    Rotary,
    rotary_frequencies,
)
from conch_export.planning.capacity import SHARED_BYTES
from conch_export.planning.memory import Footprint
from conch_server.backends.onnxruntime.conch_onnx import packed

from tests.random_weights import linear, norm

LONG = 8192


def encoder(
    hidden: int, heads: int, inner: int, *, layers: int = 1, gated: bool = False, words: int = 30528
) -> Encoder:
    """Random weights in a true shape; plain attention."""

    def layer() -> Layer:
        query, key, value, output = (linear(hidden, hidden) for _ in range(4))
        attention = Attention(query, key, value, output, heads, heads)
        gate = linear(hidden, inner) if gated else None
        network = FeedForward(linear(hidden, inner), linear(inner, hidden), Activation.GELU, gate)
        return Layer(attention, norm(hidden), network, norm(hidden))

    table = np.zeros((words, hidden), np.float32)
    return Encoder(table, tuple(layer() for _ in range(layers)), LONG, norm=norm(hidden))


def attending(shape: Encoder, **changes: object) -> Encoder:
    """The same with another kind of attention."""
    layers = (replace(layer, attention=replace(layer.attention, **changes)) for layer in shape.layers)  # type: ignore[arg-type]
    return replace(shape, layers=tuple(layers))


def jina_small(layers: int, heads: int = 8) -> Encoder:
    """The shape of jina-embeddings-v2-small-en, which has 4 layers, or a narrower one of fewer heads."""
    return attending(encoder(64 * heads, heads, 256 * heads, layers=layers, gated=True), bias=Alibi.of(heads))


def planned(shape: Encoder, precision: str, length: int, rows: int = 1) -> Capacity:
    kind = Precision(precision)
    return Capacity(shape, kind, Footprint.of(shape, kind), length, rows, instances=1)


ROTARY = Rotary.of(rotary_frequencies(10000, 64), LONG)
SHAPES = {
    "MiniLM": lambda: encoder(384, 12, 1536, layers=2),
    "nomic": lambda: attending(encoder(768, 12, 3072, gated=True), rotary=ROTARY),
    "ModernBERT": lambda: attending(encoder(512, 8, 768, gated=True), rotary=ROTARY, window=64),
    "many words": lambda: encoder(384, 12, 1536, words=250_002),
    "tiny": lambda: encoder(48, 4, 96),
}


@pytest.mark.parametrize(
    ("shape", "precision", "length"),
    [
        ("MiniLM", "fp32", 128),
        ("MiniLM", "int8", 1024),
        ("nomic", "fp32", 1024),
        ("nomic", "int8", 2048),
        ("ModernBERT", "fp32", 4096),
        ("ModernBERT", "int8", 1024),
        ("many words", "fp32", 128),
        ("tiny", "int8", 1024),
    ],
)
def test_the_planned_peak_is_the_measured_one(shape: str, precision: str, length: int) -> None:
    plan = planned(SHAPES[shape](), precision, length)
    assert plan.budget.total == pytest.approx(plan.measure(), rel=0.25)


# What every process takes is a larger part of the narrower one.
@pytest.mark.parametrize(
    ("precision", "length", "heads", "allowed"), [("fp32", LONG, 4, 0.2), ("int8", LONG // 2, 8, 0.25)]
)
def test_so_it_is_for_long_texts(precision: str, length: int, heads: int, allowed: float) -> None:
    plan = planned(jina_small(1, heads), precision, length)
    assert plan.budget.total == pytest.approx(plan.measure(), rel=allowed)


def test_so_it_is_for_merged_rows() -> None:
    plan = planned(jina_small(layers=1), "int8", 512, rows=8)
    assert plan.budget.total == pytest.approx(plan.measure(), rel=0.25)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_8192_tokens_of_jina_small_take_less_than_a_gigabyte(precision: str) -> None:
    assert planned(jina_small(layers=4), precision, LONG).total < 1e9


def test_tiles_take_a_twentieth_of_what_whole_scores_would() -> None:
    plan = planned(jina_small(layers=1), "fp32", LONG)
    assert plan.footprint.whole_scores(LONG) == 8 * LONG * LONG * 4
    assert plan.budget.scores < plan.footprint.whole_scores(LONG) / 20


@pytest.mark.parametrize("memory", [400e6, 600e6, 1e9])
def test_the_longest_that_fits_fits_and_one_more_token_does_not(memory: float) -> None:
    plan = planned(jina_small(layers=4), "int8", 512)
    longest = plan.longest(int(memory))
    assert 0 < longest <= LONG
    assert replace(plan, length=longest).total <= memory
    assert longest == LONG or replace(plan, length=longest + 1).total > memory


@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("shape", ["tiny", "ModernBERT"])
def test_longer_texts_never_take_less(shape: str, rows: int) -> None:
    plan = planned(SHAPES[shape](), "fp32", 1, rows)
    totals = [replace(plan, length=length).total for length in range(1, 1500)]
    assert totals == sorted(totals)


def test_what_never_fits_has_no_length() -> None:
    assert planned(jina_small(layers=4), "fp32", 512).longest(10**8) == 0


def test_more_instances_take_more() -> None:
    one = planned(jina_small(layers=1), "int8", 512)
    assert replace(one, instances=3).total - one.total == 2 * one.budget.total


def test_instances_share_large_weights() -> None:
    two = replace(planned(jina_small(layers=4), "fp32", 512), instances=2)
    assert two.shares_weights
    assert replace(two, instances=8).total - two.total == 6 * two.budget.own
    assert two.budget.own < 0.6 * two.budget.total


def test_the_server_shares_weights_of_the_same_size() -> None:
    assert SHARED_BYTES == packed.WORTH_BYTES
