"""Weights that all instances of a model share, packed once at the start."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from conch_server.backends.onnxruntime.conch_onnx import packed as module
from conch_server.backends.onnxruntime.conch_onnx.runner import GraphModel, RequestError
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WIDTH = 96
CONFIG: dict[str, Any] = {
    "name": "m",
    "max_batch_size": 8,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [WIDTH]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [WIDTH]}],
    "instance_group": [{"name": "first", "count": 1}, {"name": "others", "count": 2}],
}
ALONE = {**CONFIG, "instance_group": [{"count": 1}]}
X = np.random.default_rng(1).standard_normal((3, WIDTH)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A version folder with a product whose matrix lies beside the graph, and counts as large."""
    monkeypatch.setattr(module, "WORTH_BYTES", 1024)
    place = tmp_path / "m" / "1"
    place.mkdir(parents=True)
    export(place, seed=0)
    return place


def export(place: Path, seed: int) -> None:
    matrix = np.random.default_rng(seed).standard_normal((WIDTH, WIDTH)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        [numpy_helper.from_array(matrix, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for path in place.iterdir():
        path.unlink()
    onnx.save(model, place / "model.onnx", save_as_external_data=True, location="model.data")


def answer(model: GraphModel) -> NDArray[np.float32]:
    (found,) = model.run([{"x": X}], set())
    assert not isinstance(found, RequestError)
    return np.asarray(found["y"])


def test_instances_open_one_packed_graph_and_answer_as_the_exported_one(folder: Path, tmp_path: Path) -> None:
    exported = answer(GraphModel.open(ALONE, folder, tmp_path / "scratch"))
    assert not (tmp_path / "scratch").exists()
    answers = [answer(GraphModel.open(CONFIG, folder, tmp_path / "scratch")) for _ in range(3)]
    (place,) = (path for path in (tmp_path / "scratch" / "m").iterdir() if path.is_dir())
    assert (place / "model.data").stat().st_size > WIDTH * WIDTH * 4
    for each in answers:
        np.testing.assert_array_equal(each, exported)


def test_an_export_under_the_same_name_is_packed_anew(folder: Path, tmp_path: Path) -> None:
    before = GraphModel.open(CONFIG, folder, tmp_path / "scratch")
    old = answer(before)
    export(folder, seed=2)
    new = answer(GraphModel.open(CONFIG, folder, tmp_path / "scratch"))
    np.testing.assert_array_equal(new, answer(GraphModel.open(ALONE, folder, tmp_path)))
    assert np.abs(new - old).max() > 1
    np.testing.assert_array_equal(answer(before), old)
    assert len([path for path in (tmp_path / "scratch" / "m").iterdir() if path.is_dir()]) == 1


def test_where_there_is_no_room_each_instance_holds_its_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    shared = answer(GraphModel.open(CONFIG, folder, tmp_path / "scratch"))
    np.testing.assert_array_equal(shared, answer(GraphModel.open(ALONE, folder, tmp_path)))
    assert "m: each instance holds its own weights: packing needs 0 MB" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "scratch" / "m").iterdir()] == ["lock"]


def test_what_other_models_may_still_write_counts_as_taken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "scratch" / "other" / "2000000.staging"
    other.mkdir(parents=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000))
    GraphModel.open(CONFIG, folder, tmp_path / "scratch")
    assert "each instance holds its own weights: packing needs 0 MB" in capsys.readouterr().err
    other.rename(other.with_suffix(""))
    GraphModel.open(CONFIG, folder, tmp_path / "scratch")
    assert not capsys.readouterr().err


def test_a_packing_that_fails_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(module._ENTRIES, "session.optimized_model_external_initializers_min_size_in_bytes", "many")
        shared = answer(GraphModel.open(CONFIG, folder, tmp_path / "scratch"))
    assert "m: each instance holds its own weights" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "scratch" / "m").iterdir()] == ["lock"]
    np.testing.assert_array_equal(shared, answer(GraphModel.open(CONFIG, folder, tmp_path / "scratch")))
