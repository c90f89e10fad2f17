"""Maps between vector spaces, and neighbours: numbers alone, no model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conch_contract import units
from conch_export import UnsupportedError
from conch_export.migration.comparison import _translated, distinct
from conch_export.migration.evaluation import Pairs, Recalls
from conch_export.migration.maps import procrustes, ridge
from conch_export.migration.neighbours import compared, nearest, recall, refuse_distances

from tests.unit.contract.test_contract import EMBEDDING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

RANDOM = np.random.default_rng(0)
RAW = replace(EMBEDDING, normalized=False, similarity=None)


def texts(count: int, dimension: int) -> Floats:
    return RANDOM.standard_normal((count, dimension)).astype(np.float32)


def turned(x: Floats, dimension: int) -> Floats:
    """Turned, and cut or filled up to another dimension; then scaled and moved."""
    wide = max(x.shape[1], dimension)
    turn, _ = np.linalg.qr(RANDOM.standard_normal((wide, wide)))
    return np.asarray(3 * (x @ turn[: x.shape[1], :dimension]) + 0.5, np.float32)


@pytest.mark.parametrize("dimension", [8, 12], ids=["the same dimension", "a longer one"])
def test_a_turned_space_is_turned_back_exactly(dimension: int) -> None:
    x = texts(200, 8)
    y = turned(x, dimension)
    np.testing.assert_allclose(procrustes(x, y)(x), y, atol=1e-4)


def test_a_rotation_into_fewer_dimensions_keeps_those_that_count() -> None:
    x = texts(200, 8) * np.array([5, 5, 5, 0.1, 0.1, 0.1, 0.1, 0.1], np.float32)
    y = x[:, :3]
    np.testing.assert_allclose(procrustes(x, y)(x), y, atol=0.2)


def test_an_affine_map_finds_what_no_rotation_can() -> None:
    x = texts(300, 8)
    y = x @ texts(8, 5) + texts(1, 5)
    begun = procrustes(x, y)
    found = ridge(x, y, begun, 1e-6)
    np.testing.assert_allclose(found(x), y, atol=1e-3)
    assert np.abs(begun(x) - y).max() > 0.1


def test_few_texts_leave_the_rotation_as_it_is() -> None:
    x = texts(300, 8)
    y = turned(x, 8)
    begun = procrustes(x[:100], y[:100])
    noisy = y[:5] + texts(5, 8)
    found = ridge(x[:5], noisy, begun, 1e6)
    np.testing.assert_allclose(found.weight, begun.weight, atol=1e-3)


def test_neighbours_are_those_that_sorting_all_scores_gives() -> None:
    x = units(texts(700, 6))  # more than one block
    own = np.arange(len(x))
    scores = x @ x.T
    np.fill_diagonal(scores, -2)
    np.testing.assert_array_equal(nearest(x, x, own), np.argsort(-scores, axis=1)[:, :10])
    assert recall(nearest(x, x, own), nearest(x, x, own)) == 1
    np.testing.assert_array_equal(nearest(x, x)[:, 0], own)


def test_a_recall_is_the_share_of_what_is_wanted() -> None:
    assert recall(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 2, 9], [7, 8, 9]])) == pytest.approx(2 / 6)


def test_vectors_are_compared_as_the_models_authors_do() -> None:
    x = texts(3, 4)
    np.testing.assert_allclose(np.linalg.norm(compared(x, RAW), axis=1), 1, rtol=1e-6)
    assert compared(x, replace(RAW, similarity="dot")) is x


@pytest.mark.parametrize("similarity", ["euclidean", "manhattan"])
def test_models_that_compare_by_a_distance_are_refused(similarity: str) -> None:
    for usual in (None, "cosine", "dot"):
        refuse_distances(replace(RAW, similarity=usual))
    refuse_distances(replace(RAW, similarity="euclidean", normalized=True))
    with pytest.raises(UnsupportedError, match=f"compares vectors by {similarity}, and neighbours are found by"):
        refuse_distances(replace(RAW, similarity=similarity))


def test_recalls_tell_a_perfect_bridge_from_none() -> None:
    x = texts(400, 8)
    y = turned(x, 8)
    places = np.arange(100)
    found = Recalls.of(Pairs(RAW, RAW, x, y), places, y[places])
    assert (found.queries, found.entries, found.bridged) == (100, 399, 1.0)
    assert found.cosine == pytest.approx(1)
    assert found.unbridged is not None
    assert found.unbridged < 0.3
    assert found.new_by_old == found.new_by_bridged < 1  # shifted, so that cosines are others
    assert Recalls.of(Pairs(RAW, RAW, texts(400, 5), y), places, y[places]).unbridged is None


def test_a_threshold_becomes_the_score_that_as_many_pairs_reach() -> None:
    old = RANDOM.uniform(0, 1, (50, 200)).astype(np.float32)
    new = 0.5 * old + 0.3
    translated = _translated(old, new, [0.2, 0.8, 1.5])
    assert [each.old for each in translated] == [0.2, 0.8]  # no pair reaches 1.5
    assert [each.new for each in translated] == pytest.approx([0.4, 0.7], abs=1e-3)
    assert [each.share for each in translated] == pytest.approx([0.8, 0.2], abs=0.02)
    assert all(each.agreement > 0.999 for each in translated)


def test_equal_and_empty_texts_count_once_and_not_at_all() -> None:
    assert distinct(["a", "b", "a", " "], 2) == ["a", "b"]
    with pytest.raises(UnsupportedError, match="2 different texts are too few"):
        distinct(["a", "b", "a", " "], 3)
