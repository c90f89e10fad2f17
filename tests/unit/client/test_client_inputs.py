"""The edge: what cannot be served is refused with the index of the item and the way out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conch_client import InvalidInputError
from conch_client._inputs import check_count, check_inputs, check_texts, check_truncate


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        pytest.param("one text", r"wrap the single text: \[text\]", id="bare-str"),
        pytest.param(b"bytes", "wrap the single text", id="bytes"),
        pytest.param([], "is empty", id="empty-list"),
        pytest.param(None, "must be a list, not NoneType", id="none"),
        pytest.param({"a": 1}, "must be a list, not dict", id="dict"),
        pytest.param({"a"}, "must be a list, not set", id="set"),
        pytest.param(["ok", 3], r"texts\[1\] must be a str, not int", id="number-among-texts"),
        pytest.param(["ok", [1]], r"texts\[1\] must be a str, not list", id="ids-among-texts"),
        pytest.param(["fine", "bad \ud800"], r"texts\[1\] has a lone surrogate at character 4", id="lone-surrogate"),
        pytest.param([1, 2, 3], r"wrap it: \[ids\]", id="flat-ids"),
        pytest.param([[1], "text"], r"texts\[1\] must be a list of token ids", id="text-among-ids"),
        pytest.param([[1], []], r"texts\[1\] has no token", id="empty-ids"),
        pytest.param([[1], [2, -1]], r"texts\[1\] must hold integers from 0", id="negative-id"),
        pytest.param([[1], [2**31]], r"texts\[1\] must hold integers from 0 to 2147483647", id="id-of-32-bits"),
        pytest.param([[2**70]], r"texts\[0\] must hold integers", id="id-beyond-64-bits"),
        pytest.param([[1], [1.5]], r"texts\[1\] must hold integers", id="float-id"),
        pytest.param([[1], ["x"]], r"texts\[1\] must hold integers", id="str-id"),
        pytest.param([[[1]], [2]], r"texts\[0\] must hold integers", id="nested-ids"),
        pytest.param([[True]], r"texts\[0\] must hold integers", id="bool-id"),
        pytest.param([None], r"texts\[0\] must be a list of token ids", id="none-item"),
    ],
)
def test_input_that_cannot_be_served_is_refused(texts: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_inputs(texts)


def test_an_invalid_input_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="empty"):
        check_texts([])


@pytest.mark.parametrize(
    "texts", [("a", "b"), iter(["a", "b"]), np.array(["a", "b"])], ids=["tuple", "iterator", "array"]
)
def test_any_ordered_collection_of_texts_is_taken(texts: Any) -> None:
    assert check_inputs(texts).texts == ["a", "b"]


@pytest.mark.parametrize(
    "ids",
    [
        [[1, 2], [3]],
        [(1, 2), (3,)],
        [np.array([1, 2]), np.array([3], np.int32)],
        [np.array([1, 2], np.uint64), np.array([3], np.int64)],
    ],
    ids=["lists", "tuples", "arrays", "arrays-that-together-are-floats"],
)
def test_token_ids_are_taken_from_lists_and_arrays(ids: Any) -> None:
    rows = check_inputs(ids).rows
    assert rows is not None
    assert rows.tolist() == [[1, 2], [3]]


@pytest.mark.parametrize("text", ["", "ascii", "größer", "日本語", "\U0001f41a", "a\x00b"])
def test_any_text_that_encodes_is_taken(text: str) -> None:
    assert check_texts([text]) == [text]


@pytest.mark.parametrize("count", [0, -1, 1.5, "3", True])
def test_counts_are_integers_of_at_least_one(count: Any) -> None:
    with pytest.raises(InvalidInputError, match="top_n must be an integer of at least 1"):
        check_count(count, "top_n")


def test_truncate_is_one_of_three_words() -> None:
    with pytest.raises(InvalidInputError, match="'end', 'start' or 'none'"):
        check_truncate("left")


def test_small_inputs_are_prepared_on_the_loop_and_large_ones_are_not() -> None:
    assert not check_inputs(["short"] * 8).heavy
    assert check_inputs(["short"] * 9).heavy
    assert check_inputs(["x" * 30_000]).heavy
    assert not check_inputs([[1, 2, 3]] * 9).heavy
