"""Micro-batches: whatever the lengths, every row is sent once and no request is larger than it may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from conch_client._requests.plan import plan_batches
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from numpy.typing import NDArray

lengths_of_rows = st.lists(st.integers(1, 600), max_size=60).map(lambda found: np.array(found, np.int64))
limits = st.fixed_dictionaries({"max_rows": st.integers(2, 16), "max_tokens": st.integers(1, 2000)})


@given(lengths_of_rows, limits, st.integers(0, 300))
def test_every_row_is_in_exactly_one_batch(lengths: NDArray[np.int64], limit: dict[str, int], lead: int) -> None:
    batches = plan_batches(lengths, **limit, lead=lead)
    assert sorted(np.concatenate([np.array([], int), *batches]).tolist()) == list(range(len(lengths)))


@given(lengths_of_rows, limits, st.integers(0, 300))
def test_no_batch_exceeds_the_limits_unless_it_is_a_single_row(
    lengths: NDArray[np.int64], limit: dict[str, int], lead: int
) -> None:
    for batch in plan_batches(lengths, **limit, lead=lead):
        rows = len(batch) + (lead > 0)
        assert rows <= limit["max_rows"]
        assert rows * max(lengths[batch].max(), lead) <= limit["max_tokens"] or len(batch) == 1


@given(lengths_of_rows, limits)
def test_the_longest_rows_go_first(lengths: NDArray[np.int64], limit: dict[str, int]) -> None:
    sent = [int(lengths[row]) for batch in plan_batches(lengths, **limit) for row in batch]
    assert sent == sorted(sent, reverse=True)


def test_a_row_longer_than_the_limit_travels_alone() -> None:
    assert [batch.tolist() for batch in plan_batches(np.array([5, 900, 5]), max_rows=8, max_tokens=100)] == [
        [1],
        [0, 2],
    ]


def test_rows_of_equal_length_keep_their_order() -> None:
    assert [batch.tolist() for batch in plan_batches(np.full(5, 7), max_rows=3)] == [[0, 1, 2], [3, 4]]


def test_a_leading_row_takes_its_place_in_every_batch() -> None:
    assert [len(batch) for batch in plan_batches(np.full(6, 4), max_rows=4, lead=4)] == [3, 3]
