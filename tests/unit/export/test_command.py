"""`conch export` as its users meet it: one line and status 1 when it fails, nothing done when nothing is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conch.app import app
from conch_export import DEFAULT, Options, plan
from conch_export.options import described
from conch_export.triton.configuration import to_text, triton_models
from typer.testing import CliRunner, Result

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
