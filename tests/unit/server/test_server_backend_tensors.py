"""Requests become one set of tensors and come back apart, whatever their shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conch_server.backends.onnxruntime.conch_onnx.batching import GraphError, merge, split
from conch_server.backends.onnxruntime.conch_onnx.contract import BatchInput, Contract, Input, Output
from hypothesis import given
from hypothesis import strategies as st


def contract(**changes: Any) -> Contract:
    described: dict[str, Any] = {
        "name": "model",
        "instances": 1,
        "batched": True,
        "inputs": (Input("ids", "TYPE_INT64", (-1,), ragged=True),),
        "outputs": (Output("tokens", "TYPE_FP32", (-1, 3), source="ids"), Output("rows", "TYPE_FP32", (2,))),
        "batch_inputs": (),
        "parameters": {},
        "graph_level": 0,
        "file_name": "model.onnx",
    }
    return Contract(**{**described, **changes})


def ids(*shape: int) -> dict[str, np.ndarray[Any, Any]]:
    return {"ids": np.arange(np.prod(shape)).reshape(shape)}


THREE = [ids(2, 3), ids(1, 5), ids(1, 1)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("BATCH_ELEMENT_COUNT", [6, 5, 1]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT", [6, 11, 12]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", [0, 6, 11, 12]),
        ("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", [0] * 6),
        ("BATCH_ITEM_SHAPE", [[3], [3], [5], [1]]),
        ("BATCH_ITEM_SHAPE_FLATTEN", [3, 3, 5, 1]),
    ],
)
def test_the_graph_is_told_the_shapes_in_every_kind_that_triton_knows(kind: str, expected: list[Any]) -> None:
    feed = merge(contract(batch_inputs=(BatchInput(kind, "made", "TYPE_INT32", "ids"),)), THREE)
    np.testing.assert_array_equal(feed["made"], expected)
    assert feed["made"].dtype == np.int32
    np.testing.assert_array_equal(feed["ids"], [*range(6), *range(5), 0])


def test_item_shapes_of_more_than_one_axis_follow_each_other() -> None:
    model = contract(batch_inputs=(BatchInput("BATCH_ITEM_SHAPE_FLATTEN", "made", "TYPE_FP32", "ids"),))
    feed = merge(model, [ids(2, 3, 4), ids(1, 5, 6)])
    np.testing.assert_array_equal(feed["made"], [3, 4, 3, 4, 5, 6])
    assert feed["made"].dtype == np.float32


def test_one_request_is_not_copied() -> None:
    request = ids(2, 3)
    assert np.shares_memory(merge(contract(), [request])["ids"], request["ids"])


def test_inputs_that_are_not_ragged_are_joined_by_rows() -> None:
    model = contract(inputs=(Input("ids", "TYPE_INT64", (3,)),))
    assert merge(model, [ids(2, 3), ids(1, 3)])["ids"].shape == (3, 3)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), min_size=1, max_size=8))
def test_every_request_gets_exactly_its_own_rows_back(shapes: list[tuple[int, int]]) -> None:
    requests = [{"ids": np.full(shape, number)} for number, shape in enumerate(shapes)]
    flat = merge(contract(), requests)["ids"]
    rows = np.concatenate([np.full((shape[0], 2), number, np.float32) for number, shape in enumerate(shapes)])
    answers = split(contract(), requests, {"tokens": np.repeat(flat, 3).astype(np.float32), "rows": rows})
    for number, (shape, answer) in enumerate(zip(shapes, answers, strict=True)):
        assert answer["tokens"].shape == (*shape, 3)
        assert answer["rows"].shape == (shape[0], 2)
        assert (answer["tokens"] == number).all()
        assert (answer["rows"] == number).all()


@pytest.mark.parametrize("elements", [3 * 12 - 3, 3 * 12 + 3], ids=["a row short", "a row long"])
def test_a_flat_output_of_another_size_is_nobodys(elements: int) -> None:
    with pytest.raises(GraphError, match=f"'tokens' has {elements} elements where the requests need 36"):
        split(contract(), THREE, {"tokens": np.zeros(elements, np.float32)})


def test_an_output_with_other_rows_is_nobodys() -> None:
    with pytest.raises(GraphError, match=r"'rows' has shape \[3, 2\] where the requests have 4 rows"):
        split(contract(), THREE, {"rows": np.zeros((3, 2), np.float32)})


def test_only_the_outputs_that_were_computed_are_given() -> None:
    answers = split(contract(), THREE, {"rows": np.zeros((4, 2), np.float32)})
    assert [list(answer) for answer in answers] == [["rows"]] * 3


def test_without_a_batch_axis_the_answer_is_the_graphs() -> None:
    model = contract(batched=False, outputs=(Output("content", "TYPE_UINT8", (-1,)),))
    result = np.zeros(7, np.uint8)
    assert split(model, [ids(2)], {"content": result})[0]["content"] is result
