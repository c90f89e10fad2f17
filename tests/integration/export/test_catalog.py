"""The list of known models, over a repository with an exported one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from conch.app import app
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.export.conftest import Exports


def models(repository: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["models", "--repository", str(repository), *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_says_what_the_repository_has(exports: Exports) -> None:
    exported = exports("xlm_roberta")
    assert f"also exported to {exported.repository}: {exported.name}" in models(exported.repository).replace("\n", "")
    listed = json.loads(models(exported.repository, "--json"))
    assert listed["others"] == [exported.name]
    assert not any(known["exported_as"] for known in listed["models"])


def test_a_known_model_is_found_by_where_it_came_from_whatever_it_is_called(exports: Exports, tmp_path: Path) -> None:
    exported = exports("xlm_roberta")
    report = json.loads((exported.repository / exported.name / "report.json").read_text())
    folder = tmp_path / "my-bge"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps({**report, "source": "hub:BAAI/bge-m3", "files": {}}))
    known = {each["name"]: each["exported_as"] for each in json.loads(models(tmp_path, "--json"))["models"]}
    assert known["bge-m3"] == ["my-bge"]
