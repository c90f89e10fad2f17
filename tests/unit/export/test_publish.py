"""Publishing is all or nothing: whatever happens in between, the repository is what it was or what it was to become."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conch_export import ExportError
from conch_export.triton.publish import STAGING, complete, staged

from tests.full_disk import full_disk
from tests.rights import as_nobody

MODELS = ["model-a", "model-b", "model-c"]


def publish(repository: Path, content: str, models: list[str] = MODELS) -> None:
    with staged(repository) as folder:
        write(folder, content, models)


def write(folder: Path, content: str, models: list[str] = MODELS) -> None:
    for model in models:
        (folder / model).mkdir()
        (folder / model / "config.pbtxt").write_text(content)
        (folder / model / "weights").write_bytes(content.encode() * 10_000)


def content_of(repository: Path) -> dict[str, bytes]:
    """Every file of the repository, hidden ones too."""
    return {str(path.relative_to(repository)): path.read_bytes() for path in repository.rglob("*") if path.is_file()}


def assert_wholly(repository: Path, content: str) -> None:
    assert sorted(path.name for path in repository.iterdir()) == MODELS
    assert {path.read_text() for path in repository.glob("*/config.pbtxt")} == {content}
    assert {path.read_bytes() for path in repository.glob("*/weights")} == {content.encode() * 10_000}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    publish(folder, "old")
    return folder


def test_models_appear_together_and_nothing_else_is_left(repository: Path) -> None:
    publish(repository, "new")
    assert_wholly(repository, "new")


def test_nothing_is_visible_before_the_block_ends(repository: Path) -> None:
    with staged(repository) as folder:
        write(folder, "new")
        assert {path.read_text() for path in repository.glob("*/config.pbtxt")} == {"old"}


def test_content_and_names_are_on_the_disk_in_time(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, bool]] = []

    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((str(path.relative_to(repository)), (repository / STAGING / "new").exists()))

    monkeypatch.setattr(os, "fsync", sync)
    publish(repository, "new", ["model-a"])
    before = {path for path, is_unpublished in synced if is_unpublished}
    assert before == {f".staging/new{path}" for path in ("", "/model-a", "/model-a/config.pbtxt", "/model-a/weights")}
    assert synced[len(before) :] == [(STAGING, False), (".", False)]


def test_an_error_after_the_publication_does_not_deny_it(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    not_in_place = pytest.raises(ExportError, match="not all put in place: the next export")
    with monkeypatch.context() as broken, not_in_place, staged(repository) as folder:
        write(folder, "new")
        broken.setattr(Path, "iterdir", refuse)
    complete(repository)
    assert_wholly(repository, "new")


def test_other_models_are_left_alone(repository: Path) -> None:
    before = content_of(repository)
    publish(repository, "mine", ["another"])
    assert {name: content for name, content in content_of(repository).items() if "another" not in name} == before


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_an_error_inside_leaves_the_repository_as_it_was(repository: Path, error: BaseException) -> None:
    def fail() -> None:
        with staged(repository) as folder:
            write(folder, "new", MODELS[:2])
            raise error

    before = content_of(repository)
    with pytest.raises(type(error)):
        fail()
    assert content_of(repository) == before
    assert not (repository / STAGING).exists()


def test_a_second_export_is_refused_and_the_first_is_not_disturbed(repository: Path) -> None:
    with staged(repository) as folder:
        write(folder, "new", MODELS[:2])
        with pytest.raises(ExportError, match=r"another export is writing to .*: wait"), staged(repository):
            pytest.fail("two exports at once")
        write(folder, "new", MODELS[2:])
    assert_wholly(repository, "new")


def test_after_a_refusal_or_an_error_the_next_export_succeeds(repository: Path) -> None:
    with contextlib.suppress(ValueError), staged(repository):
        raise ValueError
    publish(repository, "new")
    assert_wholly(repository, "new")


def test_killed_at_any_moment_the_repository_is_wholly_old_or_wholly_new_after_the_next_export(
    repository: Path, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("killed_publishers.py")
    subprocess.run([sys.executable, str(script), str(repository), str(tmp_path / "killed")], check=True, timeout=300)
    killed = sorted((tmp_path / "killed").iterdir())
    assert len(killed) > 6 * len(MODELS)

    outcomes = [recovered(folder) for folder in killed]

    assert outcomes == sorted(outcomes, key=["old", "new"].index)
    assert set(outcomes) == {"old", "new"}


def test_what_was_published_is_put_in_its_place_by_whoever_serves_it(repository: Path) -> None:
    write_to = repository / STAGING / "ready"
    write_to.mkdir(parents=True)
    write(write_to, "new", MODELS[1:])
    complete(repository)
    assert {path.read_text() for path in repository.glob("model-[bc]/config.pbtxt")} == {"new"}
    assert not (repository / STAGING).exists()
    with staged(repository):
        complete(repository)  # nothing is published yet: nobody is disturbed


def recovered(repository: Path) -> str:
    """What the repository holds, wholly, after another export."""
    publish(repository, "other", ["another"])
    shutil.rmtree(repository / "another")
    content = (repository / MODELS[0] / "config.pbtxt").read_text()
    assert_wholly(repository, content)
    return content


def test_a_full_disk_is_told_and_changes_nothing(repository: Path) -> None:
    before = content_of(repository)
    told = r"cannot write to .*: File too large\. The repository is as it was\. Make room there"
    with full_disk(20_000), pytest.raises(ExportError, match=told):
        publish(repository, "new")
    assert content_of(repository) == before


def test_a_file_elsewhere_that_cannot_be_read_is_named_in_place_of_the_repository(
    repository: Path, tmp_path: Path
) -> None:
    before = content_of(repository)
    (checkpoint := tmp_path / "checkpoint").mkdir()
    told = rf"^{re.escape(str(checkpoint))} cannot be read: Is a directory\. .* The repository is as it was"
    with pytest.raises(ExportError, match=told), staged(repository):
        checkpoint.read_bytes()
    assert content_of(repository) == before


def test_a_file_in_it_that_cannot_be_written_is_named(repository: Path) -> None:
    told = r"cannot write to .*/gone/config\.pbtxt: No such file"
    with pytest.raises(ExportError, match=told), staged(repository) as new:
        (new / "gone" / "config.pbtxt").write_text("")


def test_what_a_library_says_is_not_blamed_on_the_repository(repository: Path) -> None:
    with pytest.raises(ExportError, match=r"^no file named x\. The repository is as it was"), staged(repository):
        raise OSError("no file named x")


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(ExportError, match="cannot write to"), staged(occupied / "repository"):
        pytest.fail("nothing can be written there")


def test_a_read_only_folder_is_told() -> None:
    # Not in `tmp_path`, which only its owner may enter: where root runs the tests, this one runs as nobody.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        told = r"cannot write to .*: Permission denied\. .* Give this user the right to it"
        with as_nobody(), pytest.raises(ExportError, match=told):
            publish(Path(folder), "new")
        assert not list(Path(folder).iterdir())


def test_a_missing_repository_is_made(tmp_path: Path) -> None:
    publish(tmp_path / "a" / "b", "new")
    assert_wholly(tmp_path / "a" / "b", "new")


def test_links_and_files_make_way_for_models(repository: Path, tmp_path: Path) -> None:
    (repository / "model-a").rename(elsewhere := tmp_path / "on another disk")
    (repository / "model-a").symlink_to(elsewhere)
    publish(repository, "new")
    assert_wholly(repository, "new")
    assert (elsewhere / "config.pbtxt").read_text() == "old"
    shutil.rmtree(repository / "model-a")
    (repository / "model-a").symlink_to(tmp_path / "gone")
    shutil.rmtree(repository / "model-b")
    (repository / "model-b").write_text("a file")
    publish(repository, "newer")
    assert_wholly(repository, "newer")


def test_an_empty_folder_takes_its_model_out(tmp_path: Path) -> None:
    for models in ({"kept", "gone"}, {"kept"}):
        with staged(tmp_path) as folder:
            for name in ("kept", "gone", "never"):
                (folder / name).mkdir()
            for name in models:
                (folder / name / "config.pbtxt").write_text("")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
