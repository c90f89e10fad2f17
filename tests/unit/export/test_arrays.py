"""Tensors that are read when they are needed are, once read, what numpy makes of the same numbers at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_export.checkpoints.weights import Weights
from conch_export.model.arrays import LazyArray, columns_joined
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NUMBERS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
MADE: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda x: x,
    "transposed": lambda x: x.T,
    "some rows": lambda x: x[2:5],
    "the last rows": lambda x: x[-2:],
    "every second row": lambda x: x[::2],
    "more rows than there are": lambda x: x[4:99],
    "one row": lambda x: x[1],
    "some columns": lambda x: x[:, 1:3],
    "chosen rows": lambda x: x[np.array([3, 0, 3])],
    "scaled": lambda x: x * np.float32(0.125),
    "with another added": lambda x: x + NUMBERS[0],
    "in half precision": lambda x: x.astype(np.float16),
    "rows, transposed, scaled": lambda x: x[1:3].T * 3.0,
}


@pytest.fixture
def stored(tmp_path: Path) -> LazyArray:
    save_file({"x": NUMBERS}, tmp_path / "model.safetensors")
    return Weights.load([tmp_path / "model.safetensors"]).array("x")


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_its_shape_and_type_are_known_before_and_its_numbers_are_right(
    stored: LazyArray, make: Callable[[Any], Any]
) -> None:
    lazy, expected = make(stored), make(NUMBERS)
    assert (lazy.shape, lazy.dtype, lazy.size, len(lazy)) == (
        expected.shape,
        expected.dtype,
        expected.size,
        len(expected),
    )
    np.testing.assert_array_equal(np.asarray(lazy), expected)
    assert np.asarray(lazy).dtype == expected.dtype


def test_several_are_joined_side_by_side(stored: LazyArray) -> None:
    both = columns_joined([stored, NUMBERS[:, :2]])
    assert both.shape == (6, 6)
    np.testing.assert_array_equal(both, np.concatenate([NUMBERS, NUMBERS[:, :2]], axis=1))


def test_nothing_is_read_before_it_is_needed() -> None:
    def read() -> np.ndarray[Any, Any]:
        pytest.fail("it was read")

    lazy = LazyArray((6, 4), read)
    made = [make(lazy) for make in MADE.values()]
    assert columns_joined([lazy, *made[:1]]).shape == (6, 8)
