"""`conch export` as its users meet it: one line and status 1 when it fails, nothing done when nothing is missing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conch.app import app
from conch_export import DEFAULT, Options, plan
from conch_export.pipeline import described
from conch_export.triton.configuration import to_text, triton_models
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
from typer.testing import CliRunner, Result

if TYPE_CHECKING:
    from tests.checkpoints import Checkpoints

COMMITTED = Path(__file__).parents[3] / "model_repository"


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["export", *map(str, arguments)])


def assert_one_line(result: Result) -> None:
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output


def test_the_committed_configurations_are_those_of_an_export() -> None:
    result = run("--check", "--repository", COMMITTED)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("cores", [1, 2, 3, 32])
def test_configurations_are_checked_for_the_cores_that_they_are_planned_for(tmp_path: Path, cores: int) -> None:
    folder = shutil.copytree(COMMITTED, tmp_path / "models", ignore=shutil.ignore_patterns("1"))
    description, _ = described(Options(DEFAULT.name, folder))
    for name, config in triton_models(description, plan(cores)).items():
        (folder / name / "config.pbtxt").write_text(to_text(config), encoding="utf-8")
    assert run("--check", "--repository", folder).exit_code == 0
    assert_one_line(run("--check", "--repository", folder, "--cores", cores + 1))


def test_a_change_of_a_committed_configuration_is_found(tmp_path: Path) -> None:
    shutil.copytree(COMMITTED, tmp_path / "models", ignore=shutil.ignore_patterns("1"))
    config = tmp_path / "models" / "all-minilm-l6-v2" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: ", "max_batch_size: 1"))
    result = run("--check", "--repository", tmp_path / "models")
    assert_one_line(result)
    assert "all-minilm-l6-v2/config.pbtxt: not what `conch export all-minilm-l6-v2` writes" in result.stderr


def test_an_export_says_what_it_measured_and_missing_does_it_once(checkpoints: Checkpoints, tmp_path: Path) -> None:
    arguments = (checkpoints.xlm_roberta(), "--precision", "fp32", "--repository", tmp_path / "models", "--missing")
    first = run(*arguments)
    assert first.exit_code == 0, first.output
    assert re.search(r"\d+ texts, \d+ tokens", first.output)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "models").rglob("*")}

    second = run(*arguments)

    assert second.exit_code == 0
    assert "already exported" in second.output
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "models").rglob("*")} == before


def test_missing_makes_good_what_was_lost(checkpoints: Checkpoints, tmp_path: Path) -> None:
    arguments = (checkpoints.xlm_roberta(), "--precision", "fp32", "--repository", tmp_path / "models", "--missing")
    run(*arguments)
    lost = tmp_path / "models" / "xlm-roberta.encoder" / "1" / "model.onnx"
    lost.unlink()
    assert run(*arguments).exit_code == 0
    assert lost.exists()


def test_missing_replaces_a_graph_of_an_older_export_beside_a_newer_configuration(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    arguments = (checkpoints.xlm_roberta(), "--precision", "fp32", "--repository", tmp_path / "models", "--missing")
    run(*arguments)
    graph = tmp_path / "models" / "xlm-roberta.pooling" / "1" / "model.onnx"
    today = graph.read_bytes()
    graph.write_bytes(today.replace(b"token_embeddings_lengths", b"token_embeddings_numbers"))  # of the same size
    assert run(*arguments).exit_code == 0
    assert graph.read_bytes() == today


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["nobody/nothing"], "not in the local cache", id="an unreachable Hub"),
        pytest.param(["no/such/folder/[red]x[/nothing]"], "[red]x[/nothing]", id="a name that looks like markup"),
        pytest.param(["all-minilm-l6-v2", "--max-length", "513"], "--max-length 513 is outside", id="too many tokens"),
        pytest.param(["all-minilm-l6-v2", "--name", "../x"], "--name", id="a name outside the repository"),
    ],
)
def test_an_error_is_one_line_and_status_1(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = run(*arguments, "--repository", tmp_path / "models")
    assert_one_line(result)
    assert said in result.stderr
    assert not list(tmp_path.glob("models/*"))


def test_a_repository_that_cannot_be_made_is_one_line(checkpoints: Checkpoints, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(checkpoints.xlm_roberta(), "--precision", "fp32", "--repository", tmp_path / "file" / "models")
    assert_one_line(result)
    assert "cannot write to" in result.stderr


def test_what_the_checkpoint_does_not_say_is_settled_by_options(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints.xlm_roberta(), tmp_path / "unsaid"))
    (folder / "modules.json").unlink()
    repository = ("--repository", tmp_path / "models", "--precision", "fp32")
    asked = run(folder, *repository)
    assert_one_line(asked)
    assert "--pooling" in asked.stderr
    assert_one_line(run(folder, *repository, "--pooling", "mean"))
    settled = run(folder, *repository, "--pooling", "mean", "--no-normalize", "--max-length", "64")
    assert settled.exit_code == 0, settled.output
    assert '"mean"' in (tmp_path / "models" / "unsaid" / "config.pbtxt").read_text()


def test_prompts_and_shorter_vectors_are_stated_by_options(checkpoints: Checkpoints, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text('{"query": "Frage: ", "passage": "Text: "}', encoding="utf-8")
    stated = ("--prompts", prompts, "--default-prompt", "passage", "--matryoshka", "16,32")
    result = run(checkpoints.xlm_roberta(), "--repository", tmp_path / "models", "--precision", "fp32", *stated)
    assert result.exit_code == 0, result.output
    config = text_format.Parse((tmp_path / "models/xlm-roberta/config.pbtxt").read_text("utf-8"), ModelConfig())
    told = {key: value.string_value for key, value in config.parameters.items()}
    assert json.loads(told["prompts"]) == {"query": "Frage: ", "passage": "Text: "}
    assert told["default_prompt_name"] == "passage"
    assert json.loads(told["matryoshka_dimensions"]) == [48, 32, 16]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--precision", "int4"],
        ["--pooling", "median"],
        ["--cores", "0"],
        ["--task", "poetry"],
        ["--prompts", "no-such-file"],
        ["--prompts", '{"query": 1}'],
        ["--prompts", '{"query'],
        ["--matryoshka", "many"],
        ["--score-tokens", "yes"],
        ["--pair-template", "no-such-file"],
    ],
    ids=" ".join,
)
def test_an_option_that_cannot_be_is_refused_before_anything_is_read(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
