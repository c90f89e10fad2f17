"""A graph and its config.pbtxt: what is refused at load, and who gets an error at run time."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conch_server.backends.onnxruntime.conch_onnx import runner
from conch_server.backends.onnxruntime.conch_onnx.contract import ConfigError, Contract
from conch_server.backends.onnxruntime.conch_onnx.runner import GraphModel, RequestError
from conch_server.backends.onnxruntime.conch_onnx.session import session_options
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from pathlib import Path

# What Triton's JSON says of a model that gives every token the number of its row, and fails on a negative id.
CONFIG: dict[str, Any] = {
    "name": "m",
    "max_batch_size": 8,
    "input": [{"name": "ids", "data_type": "TYPE_INT64", "dims": [-1], "allow_ragged_batch": True}],
    "batch_input": [
        {
            "kind": "BATCH_ITEM_SHAPE_FLATTEN",
            "data_type": "TYPE_INT32",
            "target_name": ["lengths"],
            "source_input": ["ids"],
        }
    ],
    "output": [{"name": "roots", "data_type": "TYPE_FP32", "dims": [-1]}],
    "batch_output": [
        {"target_name": ["roots"], "kind": "BATCH_SCATTER_WITH_INPUT_SHAPE", "source_input": ["ids"]},
    ],
    "parameters": {"intra_op_thread_count": {"string_value": "1"}},
}
TABLE = 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version folder with a graph that looks ids up in a table of square roots."""
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["found"]),
            helper.make_node("ReduceSum", ["lengths"], ["total"], keepdims=1),
            helper.make_node("Cast", ["total"], ["size"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["found", "size"], ["roots"]),
        ],
        "roots",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["r"]),
        ],
        [helper.make_tensor_value_info("roots", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("table", TensorProto.FLOAT, [TABLE], np.sqrt(np.arange(TABLE, dtype=np.float32)))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path


def ids(*values: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {"ids": np.array(values, np.int64)}


def test_merged_requests_get_what_each_gets_alone(folder: Path) -> None:
    model = GraphModel.open(CONFIG, folder, folder)
    requests = [ids([1, 2, 3], [4, 5, 6]), ids([9]), ids([0, 1, 2, 3, 4])]
    together = model.run(requests, set())
    for request, answer in zip(requests, together, strict=True):
        assert not isinstance(answer, RequestError)
        np.testing.assert_allclose(answer["roots"], np.sqrt(request["ids"]), rtol=1e-6)


def test_only_the_request_that_fails_gets_the_error(folder: Path) -> None:
    answers = GraphModel.open(CONFIG, folder, folder).run([ids([1]), ids([TABLE]), ids([4])], {"roots"})
    assert [isinstance(answer, RequestError) for answer in answers] == [False, True, False]
    assert isinstance(answers[1], RequestError)
    assert not answers[1].invalid
    assert "model 'm' failed" in str(answers[1])


def test_an_error_without_a_message_is_told_by_its_kind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(runner, "merge", fail)
    (answer,) = GraphModel.open(CONFIG, folder, folder).run([ids([1])], set())
    assert str(answer) == "model 'm' failed: MemoryError"


def test_rows_of_no_length_reach_the_graph_and_get_their_own_shape_back(folder: Path) -> None:
    requests = [{"ids": np.empty((2, 0), np.int64)}, ids([4]), {"ids": np.empty((1, 0), np.int64)}]
    first, second, third = GraphModel.open(CONFIG, folder, folder).run(requests, set())
    assert not isinstance(first, RequestError)
    assert not isinstance(second, RequestError)
    assert not isinstance(third, RequestError)
    assert first["roots"].shape == (2, 0)
    assert second["roots"].tolist() == [[2.0]]
    assert third["roots"].shape == (1, 0)


def test_a_request_without_rows_is_refused_and_its_neighbours_are_not(folder: Path) -> None:
    answers = GraphModel.open(CONFIG, folder, folder).run([{"ids": np.empty((0, 2), np.int64)}, ids([4])], set())
    assert isinstance(answers[0], RequestError)
    assert answers[0].invalid
    assert "[0, 2]; give at least one row" in str(answers[0])
    assert not isinstance(answers[1], RequestError)
    assert answers[1]["roots"].tolist() == [[2.0]]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The configuration with one value replaced; the path is keys and indices separated by slashes."""
    config = copy.deepcopy(CONFIG)
    *parents, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    place: Any = config
    for step in parents:
        place = place[step]
    place[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("input/0/name", "tokens", r"the graph takes \['ids'\], which neither input nor batch_input"),
        (
            "batch_input/0/target_name",
            ["lengths", "more"],
            r"gives \['more'\], which the graph does not take",
        ),
        ("output/0/name", "squares", r"promises \['squares'\], but the graph has only \['roots'\]"),
        ("input/0/data_type", "TYPE_INT32", r"input 'ids' is TYPE_INT32 in config.pbtxt and tensor\(int64\)"),
        ("input/0/data_type", "TYPE_STRING", "'ids' is TYPE_STRING; use one of"),
        ("input/0/allow_ragged_batch", False, r"input 'ids' has dims \[-1, -1\] \(batch axis included\).* and \[-1\]"),
        ("input/0/optional", True, "input 'ids' is optional"),
        ("input/0/reshape", {"shape": [1]}, "'ids' has a reshape"),
        ("batch_input/0/kind", "BATCH_SOMETHING", "kind BATCH_SOMETHING is not known"),
        ("batch_input/0/data_type", "TYPE_INT64", "Triton allows TYPE_INT32 and TYPE_FP32"),
        ("batch_input/0/data_type", "TYPE_FP32", r"'lengths' is TYPE_FP32 in config.pbtxt and tensor\(int32\)"),
        ("batch_input/0/source_input", ["mask"], r"source_input \['mask'\] is no input"),
        ("batch_output/0/kind", "BATCH_GATHER", "kind BATCH_GATHER is not known"),
        ("output/0/dims", [-1, -1], "cannot take its shape from 'ids'"),
        ("sequence_batching", {"max_sequence_idle_microseconds": 1}, "sequence_batching is not supported"),
        ("parameters/intra_op_thread_count", {"string_value": "two"}, "write a whole number"),
        ("parameters/enable_mem_arena", {"string_value": "maybe"}, "enable_mem_arena is 'maybe'; use one of"),
        ("default_model_filename", "other.onnx", "other.onnx does not exist; run `conch export`"),
    ],
)
def test_a_configuration_that_does_not_fit_the_graph_is_refused_at_load(
    folder: Path, path: str, value: Any, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=f"model 'm': .*{complaint}"):
        GraphModel.open(changed(path, value), folder, folder)


def test_parameters_reach_onnxruntime_under_the_names_of_tritons_own_backend() -> None:
    parameters = {
        "intra_op_thread_count": "3",
        "inter_op_thread_count": "2",
        "execution_mode": "1",
        "enable_mem_arena": "0",
        "enable_mem_pattern": "false",
        "session.intra_op.allow_spinning": "0",
        "conch_format": "1",
    }
    config = {
        **CONFIG,
        "parameters": {key: {"string_value": value} for key, value in parameters.items()},
        "optimization": {"graph": {"level": 1}},
    }
    options = session_options(Contract.from_config(config))
    assert options.intra_op_num_threads == 3
    assert options.inter_op_num_threads == 2
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert options.enable_cpu_mem_arena is False
    assert options.enable_mem_pattern is False
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
