"""Temporary files: what keeps them from being written is told, with the disk that they are on."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest
from conch_export import ExportError
from conch_export.scratch import temporary_folder, temporary_writes

if TYPE_CHECKING:
    from pathlib import Path


def test_a_place_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    told = r"cannot write temporary files to .*gone: No such file .*TMPDIR"
    with pytest.raises(ExportError, match=told), temporary_folder():
        pytest.fail("nothing can be written there")


def test_what_a_library_says_of_other_files_is_left_as_it_is() -> None:
    with pytest.raises(OSError, match="no file named model"), temporary_writes():
        raise OSError("no file named model.safetensors")


def test_a_file_that_is_no_temporary_one_is_named(tmp_path: Path) -> None:
    (checkpoint := tmp_path / "checkpoint").mkdir()
    told = r"^.*checkpoint cannot be read: Is a directory"
    with temporary_folder() as folder, pytest.raises(ExportError, match=told), temporary_writes(folder):
        checkpoint.read_bytes()


def test_a_link_that_cannot_be_made_is_a_temporary_file(tmp_path: Path) -> None:
    told = "cannot write temporary files to .*: No such file .*TMPDIR"
    with temporary_folder() as folder, pytest.raises(ExportError, match=told), temporary_writes(folder):
        (folder / "gone" / "link").symlink_to(tmp_path)
