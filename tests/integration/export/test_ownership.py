"""A name belongs to the model that was exported under it: no export takes another's, or takes another's away."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conch_export import Options, Precision, UnsupportedError, export
from conch_export.model.description import EmbeddingModel
from conch_export.triton.published import published
from conch_export.triton.repository import owned, owners

if TYPE_CHECKING:
    from tests.checkpoints import Checkpoints


def put(repository: Path, checkpoint: Path, name: str, *, late_interaction: bool = False) -> None:
    export(Options(str(checkpoint), repository, name, precision=Precision.FP32, late_interaction=late_interaction))


def files(repository: Path) -> dict[str, bytes]:
    return {str(path.relative_to(repository)): path.read_bytes() for path in repository.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def with_derived(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of `a` and the models that are derived from it."""
    folder = tmp_path_factory.mktemp("ownership") / "models"
    put(folder, checkpoints.bert(), "a", late_interaction=True)
    return folder


@pytest.fixture
def repository(with_derived: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(with_derived, tmp_path / "models"))


def test_every_model_knows_its_owner(repository: Path) -> None:
    assert set(owners(repository).values()) == {"a"}
    assert owned(repository, "a") == sorted(path.name for path in repository.iterdir())


@pytest.mark.parametrize("name", ["a-tokens", "a-maxsim"])
def test_a_derived_models_name_is_taken(repository: Path, checkpoints: Checkpoints, name: str) -> None:
    before = files(repository)
    with pytest.raises(UnsupportedError, match=rf"needs the name '{name}'.* is derived from 'a': choose another"):
        put(repository, checkpoints.bert(), name)
    assert files(repository) == before


def test_deriving_a_model_of_anothers_name_is_refused(tmp_path: Path, checkpoints: Checkpoints) -> None:
    put(tmp_path, checkpoints.bert(), "b-tokens")
    before = files(tmp_path)
    with pytest.raises(UnsupportedError, match=r"'b' needs the name 'b-tokens', .*is a model of its own: choose"):
        put(tmp_path, checkpoints.bert(), "b", late_interaction=True)
    assert files(tmp_path) == before


def test_an_export_takes_away_only_what_the_one_before_it_had_made(repository: Path, checkpoints: Checkpoints) -> None:
    put(repository, checkpoints.bert(), "a")
    assert not {"a-tokens", "a-maxsim", "a-maxsim.maxsim"} & set(owners(repository))
    put(repository, checkpoints.bert(), "a-tokens")
    put(repository, checkpoints.bert(), "a")
    assert owners(repository)["a-tokens"] == "a-tokens"
    description, _ = published(repository, "a")
    assert isinstance(description, EmbeddingModel)
    assert (description.late_interaction, description.projected) == (False, 0)


def test_what_no_export_wrote_is_left_alone(repository: Path, checkpoints: Checkpoints) -> None:
    (repository / "mine").mkdir()
    (repository / "mine" / "config.pbtxt").write_text('name: "mine"\nbackend: "python"\n')
    with pytest.raises(UnsupportedError, match=r"'mine', which .* was not exported by conch: move it elsewhere"):
        put(repository, checkpoints.bert(), "mine")
