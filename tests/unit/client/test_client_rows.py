"""Token rows: flat in memory, padded on the wire, and the same ids on both sides."""

from __future__ import annotations

import numpy as np
from conch_client._tokenization.rows import Rows
from hypothesis import given
from hypothesis import strategies as st

ragged = st.lists(st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=9), min_size=1, max_size=9)


@given(ragged, st.data())
def test_a_matrix_has_the_rows_asked_for_and_zeros_after_their_end(rows: list[list[int]], data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1))
    matrix = Rows.of(rows).matrix(np.array(index))
    for asked, ids, mask in zip(index, matrix.input_ids, matrix.attention_mask, strict=True):
        assert ids[: len(rows[asked])].tolist() == rows[asked]
        assert not ids[len(rows[asked]) :].any()
        assert mask.sum() == len(rows[asked])
        assert mask[: len(rows[asked])].all()
    assert matrix.input_ids.shape[1] == max(len(rows[asked]) for asked in index)


@given(ragged)
def test_rows_come_back_as_they_were_given(rows: list[list[int]]) -> None:
    assert Rows.of(rows).tolist() == rows


def test_segments_are_padded_like_ids() -> None:
    rows = Rows.of([[5, 6, 7], [8]], [[0, 1, 1], [1]])
    assert rows.matrix(np.array([1, 0])).token_type_ids.tolist() == [[1, 0, 0], [0, 1, 1]]


def test_what_is_sent_is_int64() -> None:
    assert {tensor.dtype for tensor in Rows.of([[1, 2]]).matrix(np.array([0]))} == {np.dtype(np.int64)}
