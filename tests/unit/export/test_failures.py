"""Exports that cannot succeed: one line that names the fix, and a repository that is as it was, byte for byte."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conch.app import app
from typer.testing import CliRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkpoints import Checkpoints
    from tests.unit.export.conftest import Exports


def without_pooling(folder: Path) -> None:
    (folder / "1_Pooling" / "config.json").unlink()


def with_a_pooling_that_is_not_built(folder: Path) -> None:
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "attention"}))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def of_an_unknown_architecture(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": "abacus"}))


def with_truncated_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def with_truncated_settings(folder: Path) -> None:
    settings = folder / "config.json"
    settings.write_text(settings.read_text()[:-10])


def without_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def content_of(repository: Path) -> dict[str, bytes]:
    return {str(path.relative_to(repository)): path.read_bytes() for path in repository.rglob("*") if path.is_file()}


@pytest.fixture
def repository(exports: Exports, tmp_path: Path) -> Path:
    """Holds a good export of the same name already."""
    return Path(shutil.copytree(exports("bert").repository, tmp_path / "repository"))


@pytest.fixture
def broken(checkpoints: Checkpoints, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints.bert(), tmp_path / "broken"))


@pytest.mark.parametrize(
    ("how", "fix"),
    [
        (without_pooling, "--pooling mean|cls|max|last"),
        (with_a_pooling_that_is_not_built, "pooling attention is not built (known: "),
        (pickled, "never loaded: look for a revision that has safetensors, or convert them"),
        (of_an_unknown_architecture, "add its family (docs/families.md)"),
        (with_truncated_weights, "truncated or damaged"),
        (with_truncated_settings, "fetch the checkpoint again"),
        (without_a_tokenizer, "save_pretrained"),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
def test_it_names_the_fix_and_changes_nothing(
    repository: Path, broken: Path, how: Callable[[Path], None], fix: str
) -> None:
    how(broken)
    before = content_of(repository)
    arguments = [str(broken), "--name", "bert-fp32", "--repository", str(repository), "--precision", "fp32"]
    result = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["export", *arguments])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert fix in result.stderr
    assert content_of(repository) == before


@pytest.mark.timeout(240)
def test_a_full_disk_is_told_and_changes_nothing(repository: Path, broken: Path) -> None:
    before = content_of(repository)

    def fill_the_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    arguments = ["export", str(broken), "--name", "bert-fp32", "--repository", str(repository), "--precision", "fp32"]
    done = subprocess.run(
        [sys.executable, "-m", "conch", *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=fill_the_disk,
    )
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "cannot write to" in said
    assert "The repository is as it was." in said
    assert content_of(repository) == before
