"""The Dockerfiles, and the scripts that seal and copy a model repository."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.declared import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))
each_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    checked = subprocess.run([hadolint, "--no-color", *DOCKERFILES], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@each_dockerfile
def test_an_image_runs_as_nobody_in_particular(path: Path) -> None:
    users = re.findall(r"^USER (\d+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert int(users[-1]) >= 1000


@each_dockerfile
def test_what_is_copied_reaches_the_builder(path: Path) -> None:
    allowed = [line[1:] for line in (path.parent / f"{path.name}.dockerignore").read_text().splitlines() if "!" in line]
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", path.read_text(encoding="utf-8"), re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(source == entry or source.startswith(f"{entry}/") for entry in allowed), source


@pytest.mark.parametrize(
    ("name", "most_mb"), [pytest.param("gateway", 400, id="gateway"), pytest.param("serve", 600, id="conch serve")]
)
def test_what_an_image_installs_is_small(name: str, most_mb: int) -> None:
    dockerfile = (ROOT / "deploy" / f"{name}.Dockerfile").read_text(encoding="utf-8")
    [extras] = re.findall(r"pip install --constraint constraints\.txt '\.\[([\w,]+)\]'", dockerfile)
    assert sum(map(installed_mb, distributions(set(extras.split(","))))) < most_mb


def distributions(extras: set[str]) -> set[str]:
    """Names of all distributions that our own with these extras brings."""
    ours = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    queue = [each for each in map(Requirement, ours) if applies(each, set())]
    found: set[tuple[str, frozenset[str]]] = set()
    while queue:
        wanted = queue.pop()
        node = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if node not in found:
            found.add(node)
            needed = map(Requirement, importlib.metadata.distribution(wanted.name).requires or ())
            queue += [each for each in needed if applies(each, wanted.extras)]
    return {name for name, _ in found}


def applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""})


@cache
def installed_mb(name: str) -> float:
    places = (Path(str(file.locate())) for file in importlib.metadata.distribution(name).files or ())
    return sum(place.stat().st_size for place in places if place.is_file()) / 1e6


@pytest.fixture
def sealed(tmp_path: Path) -> tuple[Path, str]:
    """A repository as an export leaves it, sealed, and what sealing it printed."""
    repository = tmp_path / "models"
    for path, text in {"a b.encoder/1/model.onnx": "graph", "a/config.pbtxt": "name: 'a'", "conch.lock": "{}"}.items():
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_text(text)
    (repository / "a" / "1").mkdir()  # an ensemble's version, which has no file
    printed = subprocess.run(
        ["sh", ROOT / "deploy/repository/seal.sh", repository], capture_output=True, text=True, check=True
    )
    return repository, printed.stdout.strip()


@pytest.fixture
def copied(tmp_path: Path, sealed: tuple[Path, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(digest: str = sealed[1]) -> subprocess.CompletedProcess[str]:
        (tmp_path / "copy").mkdir(exist_ok=True)
        return subprocess.run(
            ["sh", ROOT / "deploy/repository/copy.sh", sealed[0], tmp_path / "copy"],
            env={"PATH": "/usr/bin:/bin", "REPOSITORY_SHA256": digest},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_repository_is_copied_whole_and_again(
    tmp_path: Path, sealed: tuple[Path, str], copied: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    first = copied()
    (tmp_path / "copy" / "left over").write_text("by a container that was killed")
    again = copied()
    assert (first.returncode, again.returncode, again.stderr) == (0, 0, "")
    assert again.stdout == f"3 files of repository {sealed[1]}\n"
    there = {path.relative_to(tmp_path / "copy") for path in (tmp_path / "copy").rglob("*")}
    assert there == {path.relative_to(sealed[0]) for path in sealed[0].rglob("*")}


def _damage(repository: Path) -> None:
    (repository / "a b.encoder/1/model.onnx").write_text("grapf")


def _add(repository: Path) -> None:
    (repository / "a/1/model.py").write_text("import os")


def _link(repository: Path) -> None:
    (repository / "a/1/model.py").symlink_to("/etc/passwd")


def _remove(repository: Path) -> None:
    (repository / "conch.lock").unlink()


def _seal_again(repository: Path) -> None:
    _damage(repository)
    subprocess.run(["sh", ROOT / "deploy/repository/seal.sh", repository], capture_output=True, check=True)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param(_damage, "damaged: ./a b.encoder/1/model.onnx: FAILED", id="a file is damaged"),
        pytest.param(_remove, "damaged: .*conch.lock", id="a file is missing"),
        pytest.param(_add, "has 4 files, and its SHA256SUMS lists 3", id="a file is added"),
        pytest.param(_link, "has 4 files, and its SHA256SUMS lists 3", id="a link is added"),
        pytest.param(_seal_again, "is not repository .*: deploy the image with that hash", id="sealed anew"),
        pytest.param(shutil.rmtree, "No such file", id="there is none"),
    ],
)
def test_any_other_repository_is_refused(
    sealed: tuple[Path, str],
    copied: Callable[..., subprocess.CompletedProcess[str]],
    change: Callable[[Path], None],
    complaint: str,
) -> None:
    change(sealed[0])
    done = copied()
    assert done.returncode == 1
    assert re.search(complaint, done.stderr)


def test_a_hash_has_to_be_stated(copied: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = copied(digest="")
    assert done.returncode == 1
    assert "set it to the hash of SHA256SUMS" in done.stderr
