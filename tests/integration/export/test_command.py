"""`conch export` of small checkpoints as its users meet it: what it says, writes and makes good."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from conch.app import app
from conch_export.triton.repository import read_config
from typer.testing import CliRunner, Result

if TYPE_CHECKING:
    from tests.checkpoints import Checkpoints


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["export", *map(str, arguments)])


def assert_one_line(result: Result) -> None:
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output


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
    stored = read_config(tmp_path / "models", "xlm-roberta").parameters
    told = {key: value.string_value for key, value in stored.items()}
    assert json.loads(told["prompts"]) == {"query": "Frage: ", "passage": "Text: "}
    assert told["default_prompt_name"] == "passage"
    assert json.loads(told["matryoshka_dimensions"]) == [48, 32, 16]
