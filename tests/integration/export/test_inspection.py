"""`conch verify`: a model in a repository is compared again, measured, and found out when it was changed."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import huggingface_hub
import onnx
import pytest
from conch.app import app
from conch_export import Options, Precision, SourceError, export, inspect, make_bundle, open_bundle
from conch_export.errors import MemoryNeededError
from conch_export.planning import exporting
from google.protobuf import text_format
from onnx import numpy_helper
from tritonclient.grpc import model_config_pb2 as pb
from typer.testing import CliRunner

from tests.documented import keys_of
from tests.merging import Published

if TYPE_CHECKING:
    from pathlib import Path

    from tests.checkpoints import Checkpoints
    from tests.hub import LocalHub
    from tests.integration.export.conftest import Exports


@pytest.fixture
def exported(exports: Exports, tmp_path: Path) -> Published:
    """A model with everything derived from it, in a repository that may be changed."""
    original = exports("xlm_roberta")
    return Published(shutil.copytree(original.repository, tmp_path / "repository"), original.name)


@pytest.fixture
def fetched(hub: LocalHub, checkpoints: Checkpoints, tmp_path: Path) -> Published:
    """A model that was exported from the Hub, without a revision."""
    hub.push("somebody/xlm-roberta", checkpoints.xlm_roberta())
    options = Options("somebody/xlm-roberta", tmp_path / "models", precision=Precision.FP32)
    return Published(options.repository, export(options).description.name)


def double_a_weight(graph: Path) -> None:
    """Of the same size on disk, as a file that was tampered with might be."""
    model = onnx.load(graph, load_external_data=False)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "layer.1.up.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 2, weight.name))
    graph.write_bytes(model.SerializeToString())


def test_it_is_compared_with_its_checkpoint_and_measured(exported: Published, checkpoints: Checkpoints) -> None:
    steps: list[str] = []

    def told(what: str, _done: int = 0, _total: int = 0, /) -> None:
        steps.append(what)

    found = inspect(exported.name, exported.repository, str(checkpoints.xlm_roberta()), told)
    report = json.loads((exported.repository / exported.name / "report.json").read_text())
    assert {name: each.as_dict() for name, each in found.verification.items()} == report["verification"]
    assert set(found.verification) == {exported.name, f"{exported.name}-maxsim", f"{exported.name}-tokens"}
    assert (found.problems, found.not_compared) == ((), "")
    assert found.disk_bytes == sum(report["files"].values())
    assert found.peak_bytes is not None
    assert found.peak_bytes > 50e6
    assert 0 < found.texts_per_s < found.tokens_per_s
    assert {"computing the reference", "verifying", "measuring speed and memory"} <= set(steps)


def test_without_its_checkpoint_it_says_so_and_verifies_the_rest(exported: Published) -> None:
    found = inspect(exported.name, exported.repository)
    assert "folder called 'xlm-roberta': say where that is with --checkpoint" in found.not_compared
    assert not found.verification
    assert set(found.merging) == {exported.name, f"{exported.name}-maxsim", f"{exported.name}-tokens"}
    assert max(found.merging.values()) < 1e-5
    assert found.problems == ()


def test_changed_weights_are_found_out(exported: Published, checkpoints: Checkpoints) -> None:
    double_a_weight(exported.encoder)
    found = inspect(exported.name, exported.repository, str(checkpoints.xlm_roberta()))
    assert "differs from its reference" in found.problems[0]


def test_what_a_model_says_of_itself_and_its_checkpoint_does_not_is_found_out(
    exported: Published, checkpoints: Checkpoints
) -> None:
    misstated = [
        ("", "max_length", "64", "states max_length = 64, its checkpoint 128"),
        ("", "pooling", "mean", "states pooling = 'mean', its checkpoint 'cls'"),
        ("", "prompts", json.dumps({"query": "q: "}), "states prompts = {'query': 'q: '}, its checkpoint {}"),
        ("-maxsim", "max_length", "64", "states max_length = 64, its checkpoint 128"),
    ]
    for derived, key, value, _ in misstated:
        path = exported.repository / (exported.name + derived) / "config.pbtxt"
        config = text_format.Parse(path.read_text("utf-8"), pb.ModelConfig())
        config.parameters[key].string_value = value
        path.write_text(text_format.MessageToString(config), "utf-8")
    found = inspect(exported.name, exported.repository, str(checkpoints.xlm_roberta()))
    for derived, _, _, said in misstated:
        assert any(f"{exported.name}{derived}/config.pbtxt {said}" in problem for problem in found.problems)
    assert found.verification, "the graphs are as they were"


def test_a_changed_tokenizer_is_found_out(exported: Published) -> None:
    path = exported.repository / f"{exported.name}.tokenizer" / "1" / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace("<mask>", "<maks>"), "utf-8")
    (problem,) = inspect(exported.name, exported.repository).problems
    assert "tokenizer.json is not the tokenizer that was exported" in problem


def test_a_misnamed_batch_input_is_found_out(exported: Published) -> None:
    config = exported.repository / f"{exported.name}.pooling" / "config.pbtxt"
    config.write_text(config.read_text().replace('target_name: "row_lengths"', 'target_name: "row_length"'))
    with pytest.raises(SourceError, match=r"\.pooling: config.pbtxt gives .*'row_length'.* takes .*'row_lengths'"):
        inspect(exported.name, exported.repository)


def test_another_checkpoint_is_not_what_it_was_exported_from(exported: Published, checkpoints: Checkpoints) -> None:
    with pytest.raises(SourceError, match="other weights than"):
        inspect(exported.name, exported.repository, str(checkpoints.bert()))


def test_an_adapter_that_is_named_and_not_found_is_refused(fetched: Published, tmp_path: Path) -> None:
    (tmp_path / "wrong").mkdir()
    with pytest.raises(SourceError, match="wrong"):
        inspect(fetched.name, fetched.repository, adapter=str(tmp_path / "wrong"))


def test_what_came_in_a_bundle_is_found_again(
    fetched: Published, hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bundle(["somebody/xlm-roberta"], fetched.repository, tmp_path / "bundle.tar")
    for cache in ("HF_HUB_CACHE", "HF_ASSETS_CACHE"):  # of the machine without a network
        monkeypatch.setattr(huggingface_hub.constants, cache, str(tmp_path / "there" / cache))
    hub.faults.status = 503
    open_bundle(tmp_path / "bundle.tar", tmp_path / "there" / "models")
    found = inspect(fetched.name, tmp_path / "there" / "models")
    assert (found.problems, found.not_compared) == ((), "")
    assert fetched.name in found.verification


def test_a_comparison_that_takes_more_memory_than_there_is_does_not_begin(
    fetched: Published, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "available_bytes", lambda: 300_000_000)
    found = inspect(fetched.name, fetched.repository)
    assert re.match(r"comparing .* takes about [\d,]+ MB of memory, and 300 MB are left: ", found.not_compared)
    assert (found.problems, found.verification) == ((), {})
    with pytest.raises(MemoryNeededError, match=r"300 MB are left: .*--ignore-memory"):
        inspect(fetched.name, fetched.repository, str(checkpoints.xlm_roberta()))
    found = inspect(fetched.name, fetched.repository, ignore_memory=True)
    assert (found.problems, found.not_compared) == ((), "")
    assert fetched.name in found.verification


def test_a_model_that_is_not_there_is_refused(exported: Published) -> None:
    with pytest.raises(SourceError, match=r"no model 'nothing'.*conch models"):
        inspect("nothing", exported.repository)


def test_a_derived_model_is_verified_with_its_base(exported: Published) -> None:
    with pytest.raises(SourceError, match=f"derived from {exported.name}: name that instead"):
        inspect(f"{exported.name}-maxsim", exported.repository)


def test_a_model_that_lost_a_file_is_damaged(exported: Published) -> None:
    exported.encoder.unlink()
    with pytest.raises(SourceError, match=r"is damaged.*export it again"):
        inspect(exported.name, exported.repository)


@pytest.mark.parametrize("kind", ["bert_cross_encoder", "modernbert"])
def test_every_kind_of_model_can_be_verified(exports: Exports, checkpoints: Checkpoints, kind: str) -> None:
    model = exports(kind)
    found = inspect(model.name, model.repository, str(getattr(checkpoints, kind)()))
    assert found.verification
    assert not found.problems


def run(exported: Published, *arguments: str) -> Any:
    command = ["verify", exported.name, "--repository", str(exported.repository), *arguments]
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, command)


def test_the_command_prints_a_card_and_succeeds(exported: Published, checkpoints: Checkpoints) -> None:
    result = run(exported, "--checkpoint", str(checkpoints.xlm_roberta()))
    assert result.exit_code == 0, result.output
    for line in (
        "against its reference",
        "after the common mean is subtracted",
        "lengths of vectors off by",
        "rank correlation",
        "merged against alone",
        "size on disk",
        "memory",
        "tokens/s on one core",
    ):
        assert line in result.output
    assert "all that was compared holds" in result.output


def test_the_command_fails_for_a_model_that_was_changed(exported: Published, checkpoints: Checkpoints) -> None:
    double_a_weight(exported.encoder)
    result = run(exported, "--checkpoint", str(checkpoints.xlm_roberta()), "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert set(found) == keys_of("conch verify")
    assert found["problems"]
