"""A row that cannot be computed becomes NaN, all of it and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from conch_export.onnx.layout import row_lengths

from tests.merging import Graphs, Request, padded

if TYPE_CHECKING:
    from tests.integration.export.conftest import Exports
    from tests.merging import Floats

GOOD = [[5, 6, 7], [8] * 30, [9, 10], [11]]
VOCABULARY, MAX_LENGTH = 30_522, 128
BAD_ROWS = {
    "a negative id": [5, -1, 7],
    "an id just outside the table": [5, VOCABULARY, 7],
    "an id far outside the table": [2**62, 6, 7],
    "the smallest id there is": [5, 6, -(2**63)],
    "no real token": [],
    "one token too many": [5] * (MAX_LENGTH + 1),
    "far too many tokens": [5, 6] * MAX_LENGTH,
}
HEADS = ["mean", "cls", "max", "last", "classifier", "maxsim", "row by row"]
every_bad_row = pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS)
every_head = pytest.mark.parametrize(
    ("head", "precision"),
    [*((head, "fp32") for head in HEADS), *((head, "int8") for head in ("mean", "classifier", "maxsim"))],
)


def graphs_with(exports: Exports, head: str, precision: str) -> Graphs:
    if head == "classifier":
        return exports("bert_cross_encoder", precision).classifier
    if head == "row by row":
        return exports("roformer", precision).embedder
    if head == "maxsim":
        return exports("bert", precision).maxsim
    return exports("bert", precision, None if head == "mean" else head).embedder


def request_with(row: list[int], *, at: int) -> Request:
    rows = [*GOOD[:at], row, *GOOD[at:]]
    return padded(rows, before=[max(map(len, rows)) - len(one) for one in rows])


@every_bad_row
@every_head
@pytest.mark.parametrize("at", [1, 4])
def test_it_is_nan_and_its_neighbours_are_untouched(
    exports: Exports, head: str, precision: str, bad: list[int], at: int
) -> None:
    graphs = graphs_with(exports, head, precision)
    elsewhere = padded([[3, 4], [6]], length=9)

    answers, far = graphs(request_with(bad, at=at), elsewhere)

    good, far_good = graphs(request_with([5, 6, 7], at=at), elsewhere)
    assert np.isnan(answers[at]).all()
    assert_unchanged(np.delete(answers, at, axis=0), np.delete(good, at, axis=0))
    assert_unchanged(far, far_good)


def assert_unchanged(found: Floats, expected: Floats) -> None:
    # A bound far below the precision of the graphs, not equality: the number of tokens in a run may choose another
    # kernel of the same matrix product.
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@every_head
def test_neighbours_of_an_unknown_id_keep_every_bit(exports: Exports, head: str, precision: str) -> None:
    graphs = graphs_with(exports, head, precision)
    spoilt, fine = graphs(request_with([5, VOCABULARY, 7], at=2)), graphs(request_with([5, 6, 7], at=2))
    np.testing.assert_array_equal(np.delete(spoilt[0], 2, axis=0), np.delete(fine[0], 2, axis=0))


@every_bad_row
def test_a_bad_query_spoils_its_own_request_only(exports: Exports, bad: list[int]) -> None:
    graphs = exports("bert").maxsim
    first, last = padded([[3, 4], [6]]), padded([[5], [7, 8, 9]])
    before, spoilt, after = graphs(first, request_with(bad, at=0), last)
    assert np.isnan(spoilt).all()
    assert_unchanged(before, graphs(first)[0])
    assert_unchanged(after, graphs(last)[0])


@every_bad_row
def test_a_run_of_nothing_but_bad_rows_returns(exports: Exports, bad: list[int]) -> None:
    assert np.isnan(exports("bert").embedder(padded([bad] * 3, length=len(bad) or 4))[0]).all()


def test_a_segment_that_the_model_does_not_know_is_refused(exports: Exports) -> None:
    scores = exports("bert_cross_encoder").classifier(padded([[5, 6], [7, 8]], types=[[0, 2], [0, 1]]))[0]
    assert np.isnan(scores[0]).all()
    assert np.isfinite(scores[1]).all()


@every_bad_row
def test_pads_and_bad_rows_never_show_a_neighbours_numbers(exports: Exports, bad: list[int]) -> None:
    graphs = exports("bert").embedder
    request = request_with(bad, at=1)
    feed = {
        "input_ids": request.ids.ravel(),
        "attention_mask": request.mask.ravel(),
        **row_lengths([request.ids.shape[1]] * len(request.ids), "attention_mask"),
    }
    tokens = graphs.encoder.run(None, feed)[0].reshape(*request.ids.shape, -1)
    good = np.arange(len(request.ids)) != 1
    assert (tokens[good][request.mask[good] == 0] == 0).all()
    assert np.isnan(tokens[1][request.mask[1] == 1]).all()
