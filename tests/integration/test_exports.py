"""What tests export once is what an export makes, and is made anew when anything that makes it changes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from conch_export import Options, Precision, export

from tests import exports

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.checkpoints import Checkpoints


def files(repository: Path) -> dict[str, bytes]:
    paths = (path for path in repository.rglob("*") if path.is_file() and path.name != "report.json")
    return {str(path.relative_to(repository)): path.read_bytes() for path in paths}


def test_copies_are_what_an_export_writes(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str | None] = []

    def noting(options: Options) -> None:
        made.append(options.name)
        export(options)

    monkeypatch.setattr(exports, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(exports, "export", noting)
    options = Options(str(checkpoints.xlm_roberta()), tmp_path / "first", name="a", precision=Precision.FP32)
    exports.export_once(options)
    exports.export_once(replace(options, repository=tmp_path / "second"))
    assert made == ["a"]
    export(replace(options, repository=tmp_path / "anew"))
    assert files(tmp_path / "first") == files(tmp_path / "second") == files(tmp_path / "anew")
    exports.export_once(replace(options, name="b"))
    exports.export_once(replace(options, reference=str(checkpoints.bert()), repository=tmp_path / "third"))
    assert made == ["a", "b", "a"]
    assert exports._hash("a", "bc") != exports._hash("ab", "c")
