"""Bundles: what is carried arrives whole and works without a network; what is not what it says is refused."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub
import pytest
from conch_export import ExportError, Options, Precision, SourceError, export, is_complete, make_bundle, open_bundle
from conch_export.bundles import archive
from conch_export.bundles.bundle import digest
from conch_export.sources.finder import resolve
from conch_export.sources.lock import Lock

from tests.full_disk import full_disk

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkpoints import Checkpoints

NAME = "xlm-roberta"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine without a network: other folders, an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "there" / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_ASSETS_CACHE", str(tmp_path / "there" / "assets"))
    (tmp_path / "there" / "work").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "there" / "work")
    return tmp_path / "there"


@pytest.fixture(scope="module")
def exported(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a model."""
    folder = tmp_path_factory.mktemp("exported") / "models"
    export(options(str(checkpoints.xlm_roberta()), folder))
    return folder


@pytest.fixture(scope="module")
def made(exported: Path, checkpoints: Checkpoints) -> Path:
    path = exported.with_name("bundle.tar")
    make_bundle([str(checkpoints.xlm_roberta())], exported, path)
    return path


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy, to do with as one likes."""
    return Path(shutil.copy(made, tmp_path / "bundle.tar"))


def options(reference: str, repository: Path) -> Options:
    return Options(reference, repository, precision=Precision.FP32, late_interaction=True)


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_models_arrive_byte_for_byte_and_the_checkpoint_under_its_name(
    bundle: Path, exported: Path, there: Path, checkpoints: Checkpoints
) -> None:
    opened = open_bundle(bundle, there / "models")
    arrived = content_of(there / "models")
    assert json.loads(arrived.pop("conch.lock"))["sources"][NAME]["origin"] == f"folder:{NAME}"
    assert arrived == content_of(exported)
    assert opened.model_names == sorted(path.name for path in exported.iterdir())
    assert all((there / "models" / name / "1").is_dir() for name in opened.model_names)
    assert is_complete(options(NAME, there / "models"))
    carried = content_of(resolve(NAME).folder)
    del carried["conch.lock"]
    assert carried == content_of(checkpoints.xlm_roberta())


def test_what_was_carried_can_be_exported_anew(bundle: Path, there: Path) -> None:
    open_bundle(bundle, there / "models")
    made = export(Options(NAME, there / "others", precision=Precision.INT8))
    assert made.description.source.origin == f"folder:{NAME}"
    assert NAME in Lock.read(there / "others").sources


def test_models_that_an_earlier_export_made_beside_it_are_gone(
    bundle: Path, there: Path, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    open_bundle(bundle, there / "models")
    checkpoint, plain = str(checkpoints.xlm_roberta()), tmp_path / "plain"
    export(Options(checkpoint, plain, precision=Precision.FP32))
    make_bundle([checkpoint], plain, bundle)
    (there / "models" / "mine").mkdir()
    (there / "models" / "mine" / "config.pbtxt").write_text("name: 'mine'")
    opened = open_bundle(bundle, there / "models")
    assert f"{NAME}-tokens" not in opened.model_names
    assert sorted(path.name for path in (there / "models").iterdir()) == sorted(
        [*opened.model_names, "conch.lock", "mine"]
    )


def test_without_an_export_the_checkpoint_is_carried_alone(
    checkpoints: Checkpoints, tmp_path: Path, there: Path
) -> None:
    made = make_bundle([str(checkpoints.bert()), str(checkpoints.xlm_roberta())], tmp_path / "none", tmp_path / "b.tar")
    assert made.model_names == []
    open_bundle(tmp_path / "b.tar", there / "models")
    assert [path.name for path in (there / "models").iterdir()] == ["conch.lock"]
    assert resolve("bert").weights_sha256 == resolve(str(checkpoints.bert())).weights_sha256


def test_the_same_bundle_has_the_same_bytes(bundle: Path, exported: Path, checkpoints: Checkpoints) -> None:
    before = digest(bundle)
    make_bundle([str(checkpoints.xlm_roberta())], exported, bundle)
    assert digest(bundle) == before
    assert [path.name for path in bundle.parent.iterdir() if path.name.startswith(".")] == []


def test_files_that_no_export_wrote_are_left_out(
    made: Path, exported: Path, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    repository = Path(shutil.copytree(exported, tmp_path / "models"))
    for name in ("README.md", ".DS_Store", "1/model.onnx.bak", "configs/small.pbtxt"):
        (repository / NAME / name).parent.mkdir(exist_ok=True)
        (repository / NAME / name).write_text("mine")
    make_bundle([str(checkpoints.xlm_roberta())], repository, tmp_path / "bundle.tar")
    assert digest(tmp_path / "bundle.tar") == digest(made)


def test_a_bundle_of_another_hash_than_was_told_is_refused(bundle: Path, there: Path) -> None:
    with pytest.raises(SourceError, match=r"has SHA-256 \w+, not 0{64}: copy it again"):
        open_bundle(bundle, there / "models", sha256="0" * 64)
    open_bundle(bundle, there / "models", sha256=digest(bundle).upper())


def test_what_the_lock_says_otherwise_is_refused(bundle: Path, there: Path) -> None:
    open_bundle(bundle, there / "models")
    path = there / "models" / "conch.lock"
    path.write_text(path.read_text().replace('"folder:xlm-roberta"', '"folder:another"'))
    before = content_of(there)
    with pytest.raises(SourceError, match=r"it was folder:another and is folder:xlm-roberta.*--update-lock"):
        open_bundle(bundle, there / "models")
    assert content_of(there) == before
    open_bundle(bundle, there / "models", update_lock=True)


def test_a_checkpoint_that_was_changed_after_it_came_is_refused(bundle: Path, there: Path) -> None:
    open_bundle(bundle, there / "models")
    (resolve(NAME).folder / "config.json").write_text("{}")
    with pytest.raises(SourceError, match="is not what came in the bundle: unbundle it again"):
        resolve(NAME)


Entry = tuple[tarfile.TarInfo, bytes]


def rewritten(path: Path, change: Callable[[list[Entry]], list[Entry]]) -> None:
    """The archive with other entries."""
    with tarfile.open(path) as tar:
        files = ((entry, tar.extractfile(entry)) for entry in tar)
        entries = [(entry, file.read()) for entry, file in files if file]
    with tarfile.open(path, "w") as tar:
        for entry, content in change(entries):
            tar.addfile(entry, io.BytesIO(content))


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Entry:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    return info, content


def instead_of_the_second(*new: Entry) -> Callable[[list[Entry]], list[Entry]]:
    return lambda entries: [entries[0], *new, *entries[2:]]


def damaged(entries: list[Entry]) -> list[Entry]:
    info, content = entries[1]
    return [entries[0], (info, bytes([content[0] ^ 1]) + content[1:]), *entries[2:]]


def enlarged(entries: list[Entry]) -> list[Entry]:
    info, content = entries[1]
    return [entries[0], entry(info.name, content + b" "), *entries[2:]]


def linked(kind: bytes) -> Callable[[list[Entry]], list[Entry]]:
    return lambda entries: [entries[0], entry(entries[1][0].name, b"", kind, "/etc/passwd"), *entries[2:]]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda entries: entries[:-1], id="an entry is missing"),
        pytest.param(lambda entries: [*entries, entries[-1]], id="an entry is there twice"),
        pytest.param(lambda entries: [*entries, entry("../../evil", b"x")], id="an entry leads elsewhere"),
        pytest.param(instead_of_the_second(entry("/etc/evil", b"x")), id="an entry has an absolute path"),
        pytest.param(linked(tarfile.SYMTYPE), id="an entry is a symbolic link"),
        pytest.param(linked(tarfile.LNKTYPE), id="an entry is a hard link"),
        pytest.param(linked(tarfile.CHRTYPE), id="an entry is a device"),
        pytest.param(damaged, id="an entry is damaged"),
        pytest.param(enlarged, id="an entry is larger than stated"),
        pytest.param(lambda entries: entries[1:], id="there is no manifest"),
        pytest.param(lambda _: [entry("manifest.json", b"[" * 100_000)], id="the manifest is a trap"),
        pytest.param(lambda _: [entry("manifest.json", bytes((16 << 20) + 1))], id="the manifest is huge"),
        pytest.param(lambda _: [], id="it is empty"),
    ],
)
def test_an_archive_that_is_not_what_it_says_puts_nothing_anywhere(
    bundle: Path, there: Path, change: Callable[[list[Entry]], list[Entry]]
) -> None:
    rewritten(bundle, change)
    assert_refused(bundle, there, r"truncated, damaged or no bundle|cannot be read as a bundle")


def assert_refused(bundle: Path, there: Path, told: str) -> None:
    with pytest.raises(SourceError, match=told) as caught:
        open_bundle(bundle, there / "models")
    assert "\n" not in str(caught.value)
    assert content_of(there) == {}


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.7, 1.0])
def test_a_truncated_file_puts_nothing_anywhere(bundle: Path, there: Path, part: float) -> None:
    with tarfile.open(bundle) as tar:
        last = tar.getmembers()[-1]
    with bundle.open("r+b") as file:  # what comes after the last file's last byte is padding
        file.truncate(int((last.offset_data + last.size - 1) * part))
    assert_refused(bundle, there, "truncated|cannot be read as a bundle")


def test_a_header_that_asks_for_all_memory_is_refused(bundle: Path, there: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    bundle.write_bytes(header.tobuf() + bundle.read_bytes())
    assert_refused(bundle, there, "cannot be read as a bundle|truncated")


def with_manifest(change: Callable[[dict[str, Any]], None]) -> Callable[[list[Entry]], list[Entry]]:
    def changed(entries: list[Entry]) -> list[Entry]:
        manifest = json.loads(entries[0][1])
        change(manifest)
        return [entry("manifest.json", json.dumps(manifest).encode()), *entries[1:]]

    return changed


def named(path: str, section: str = "models") -> Callable[[dict[str, Any]], None]:
    """A manifest that puts a file it has under another path."""

    def change(manifest: dict[str, Any]) -> None:
        files = manifest["models"] if section == "models" else manifest["sources"][NAME]["files"]
        files[path] = next(iter(files.values()))

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(named("../evil/config.pbtxt"), id="a model above the repository"),
        pytest.param(named("/evil/config.pbtxt"), id="a model at an absolute path"),
        pytest.param(named("evil/1/model.py"), id="a model that is code"),
        pytest.param(named("evil/1/model.pt"), id="a model that is a pickle"),
        pytest.param(named(".staging/config.pbtxt"), id="a model in the way of publishing"),
        pytest.param(named("../config.json", "sources"), id="a checkpoint's file above its folder"),
        pytest.param(named("pytorch_model.bin", "sources"), id="a checkpoint's pickle"),
        pytest.param(named("modeling.py", "sources"), id="a checkpoint's code"),
        pytest.param(lambda manifest: manifest.update(format=2), id="another format"),
        pytest.param(lambda manifest: manifest.pop("models"), id="a part missing"),
        pytest.param(lambda manifest: manifest.update(models=[1]), id="another shape"),
    ],
)
def test_a_manifest_that_cannot_be_puts_nothing_anywhere(
    bundle: Path, there: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    rewritten(bundle, with_manifest(change))
    assert_refused(bundle, there, "the bundle's manifest cannot be .*: make it again")


def test_a_name_that_leads_elsewhere_stays_where_checkpoints_are(bundle: Path, there: Path) -> None:
    def rename(manifest: dict[str, Any]) -> None:
        manifest["sources"]["../../../evil"] = manifest["sources"].pop(NAME)

    rewritten(bundle, with_manifest(rename))
    open_bundle(bundle, there / "models")
    assert {path.parents[1] for path in there.rglob("model.safetensors")} == {
        there / "assets" / "conch" / "checkpoints"
    }


def test_what_cannot_be_written_leaves_nothing_behind(bundle: Path, there: Path, checkpoints: Checkpoints) -> None:
    with full_disk(20_000):
        with pytest.raises(ExportError, match=r"cannot write to .*: File too large"):
            open_bundle(bundle, there / "models")
        with pytest.raises(SourceError, match=r"cannot write .*another\.tar: File too large"):
            make_bundle([str(checkpoints.xlm_roberta())], there / "models", there / "another.tar")
    assert content_of(there) == {}


def test_an_interruption_leaves_nothing_behind(bundle: Path, there: Path, checkpoints: Checkpoints) -> None:
    def interrupt(_what: str, _done: int = 0, _total: int = 0, /) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_bundle(bundle, there / "models", progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_bundle([str(checkpoints.bert())], there / "models", there / "another.tar", progress=interrupt)
    assert content_of(there) == {}


def test_two_checkpoints_of_one_name_are_told(checkpoints: Checkpoints, tmp_path: Path) -> None:
    reference = str(checkpoints.bert())
    with pytest.raises(SourceError, match="two checkpoints are called 'bert'"):
        make_bundle([reference, reference], tmp_path / "none", tmp_path / "b.tar")


def test_what_is_no_bundle_is_told(tmp_path: Path, there: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read as a bundle: No such file"):
        open_bundle(tmp_path / "none.tar", there / "models")
    (tmp_path / "none.tar").write_bytes(hashlib.sha256().digest() * 1000)
    assert_refused(tmp_path / "none.tar", there, "cannot be read as a bundle")


def test_what_a_killed_one_left_is_removed_and_no_other_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / ".env.local").write_text("KEY=1")
    (tmp_path / ".env.a1b2.conch-unfinished").touch()
    archive.write(tmp_path / "env", {}, {}, lambda _: None)
    assert {path.name for path in tmp_path.iterdir()} == {".env.local", "env"}
