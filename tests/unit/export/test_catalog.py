"""Known models: data that agrees with what is built, and the list that users see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conch.app import app
from conch_export import CATALOG, Entry, Task, families
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path


every_entry = pytest.mark.parametrize("entry", CATALOG.values(), ids=lambda entry: str(entry.name))


@every_entry
def test_a_known_model_is_of_a_family_and_a_task_that_are_built(entry: Entry) -> None:
    assert entry.family in families.modules()
    assert entry.task in {task.value for task in Task}


@every_entry
def test_what_answers_vectors_says_how_long_they_are(entry: Entry) -> None:
    assert (entry.dimension is None) == (entry.task == "cross-encoder")


def test_weights_count_as_tried_only_where_a_package_carries_them() -> None:
    assert {entry.name for entry in CATALOG.values() if entry.verified == "weights"} == {
        entry.name for entry in CATALOG.values() if entry.package
    }


def models(repository: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["models", "--repository", str(repository), *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_has_every_known_model_and_what_is_not_known_is_a_question_mark(tmp_path: Path) -> None:
    lines = models(tmp_path / "nothing").splitlines()
    rows = {line.split()[0]: line for line in lines if "/" in line}
    assert set(rows) == {entry.hub_id for entry in CATALOG.values()}
    assert " ? " in rows["colbert-ir/colbertv2.0"]
