"""Checks before Triton starts, and their messages."""

from __future__ import annotations

import platform
import shutil
import socket
import sys
from pathlib import Path

import pytest
from conch_server import (
    InstallationError,
    PortTakenError,
    RepositoryError,
    ServerSettings,
    ServingError,
    _log,
    _warden,
    check_free,
)
from conch_server._arguments import secret_argument, triton_arguments
from conch_server._log import TritonLog
from conch_server._preflight import check_repository
from conch_server._run import remove_leftovers
from conch_server._wheel import find_wheel


def model(repository: Path, name: str, config: str = 'backend: "onnxruntime"\n', file: str = "model.onnx") -> Path:
    version = repository / name / "1"
    version.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config)
    if file:
        (version / file).touch()
    return repository / name


def test_every_model_of_the_repository_is_found_in_order(tmp_path: Path) -> None:
    model(tmp_path, "b")
    model(tmp_path, "a", 'default_model_filename: "graph.onnx"\n', "graph.onnx")
    model(tmp_path, ".staging")
    (tmp_path / "notes").mkdir()
    assert check_repository(tmp_path) == ["a", "b"]


def test_the_version_folder_of_an_ensemble_is_made_when_git_has_not_kept_it(tmp_path: Path) -> None:
    ensemble = model(tmp_path, "e", 'platform: "ensemble"\n', "")
    (ensemble / "1").rmdir()
    assert check_repository(tmp_path) == ["e"]
    assert (ensemble / "1").is_dir()


@pytest.mark.parametrize("file", ["", "other.onnx"])
def test_models_without_weights_are_named_with_the_fix(tmp_path: Path, file: str) -> None:
    model(tmp_path, "whole")
    model(tmp_path, "bare", file=file)
    with pytest.raises(RepositoryError, match=r"no weights in .* for bare; run `conch export`"):
        check_repository(tmp_path)


def test_a_repository_that_is_missing_or_empty_is_said_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="has no model; run `conch export`"):
        check_repository(tmp_path)
    with pytest.raises(RepositoryError, match=r"does not exist; run `conch export`.*CONCH_MODEL_REPOSITORY"):
        check_repository(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(RepositoryError, match=r"file is not a folder; run `conch export`"):
        check_repository(tmp_path / "file")


def test_a_taken_port_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"port {port} on 127\.0\.0\.1 is already in use; set THE_PORT"):
            check_free("127.0.0.1", port, "THE_HOST", "THE_PORT")
    check_free("127.0.0.1", port, "THE_HOST", "THE_PORT")


@pytest.mark.parametrize("host", ["192.0.2.7", "nowhere.invalid", "no..host"])
def test_an_address_that_is_not_this_machines_is_named_with_its_setting(host: str) -> None:
    with pytest.raises(ServingError, match=rf"cannot listen on {host}:8001 \(.*\); change THE_HOST"):
        check_free(host, 8001, "THE_HOST", "THE_PORT")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "triton.example", "::1"])  # noqa: S104
def test_the_embedded_triton_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(
        ValueError,
        match=r"not an IPv4 loopback address, such as 127\.0\.0\.1; to serve other machines use docker compose",
    ):
        ServerSettings(triton_host=host)


def test_a_key_that_is_refused_is_not_shown() -> None:
    with pytest.raises(ValueError, match="write at least 16 letters") as refused:
        ServerSettings.model_validate({"triton_admin_key": "open:sesame"})
    assert "sesame" not in str(refused.value)


def test_flags_win_over_the_environment_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCH_TRITON_GRPC_PORT", "9001")
    monkeypatch.setenv("CONCH_TRITON_METRICS_PORT", "9002")
    settings = ServerSettings(triton_grpc_port=7001)
    assert (settings.triton_grpc_port, settings.triton_metrics_port, settings.triton_host) == (7001, 9002, "127.0.0.1")


@pytest.mark.parametrize("metrics_port", [0, 8002])
def test_only_grpc_and_metrics_are_open_and_only_on_loopback(metrics_port: int) -> None:
    settings = ServerSettings(triton_metrics_port=metrics_port)
    arguments = triton_arguments(settings, backends=Path("/b"), name="p", cores=8)
    assert "--allow-http=false" in arguments
    assert "--model-control-mode=none" in arguments
    closed = "--grpc-restricted-protocol=shared-memory,trace,logging:conch-admin=k"
    assert secret_argument("k", loads_on_demand=False) == closed
    assert ("--metrics-address=127.0.0.1" in arguments) == bool(metrics_port)
    assert ("--allow-metrics=false" in arguments) == (not metrics_port)


def test_the_wheel_is_found_whole() -> None:
    wheel = find_wheel()
    assert wheel.tritonserver.is_file()
    assert wheel.stub.parent.name == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert all(folder.is_absolute() and folder.is_dir() for folder in (*wheel.libraries, *wheel.packages))
    assert wheel.environment()["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize(
    ("patch", "complaint"),
    [
        pytest.param((platform, "machine", lambda: "aarch64"), "needs Linux on x86-64", id="another processor"),
        pytest.param((platform, "libc_ver", lambda: ("glibc", "2.31")), "needs glibc 2.35 or newer", id="old glibc"),
        pytest.param((platform, "libc_ver", lambda: ("", "")), "needs glibc 2.35 or newer", id="another C library"),
        pytest.param(
            ("importlib.util", "find_spec", lambda _: None), "needs nvidia-pytriton; install it", id="no wheel"
        ),
    ],
)
def test_what_this_machine_lacks_is_said_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, patch: tuple[object, str, object], complaint: str
) -> None:
    target, name, value = patch
    if isinstance(target, str):
        monkeypatch.setattr(f"{target}.{name}", value)
    else:
        monkeypatch.setattr(target, name, value)
    with pytest.raises(InstallationError, match=complaint):
        find_wheel()


def test_older_logs_are_kept_up_to_a_number(tmp_path: Path) -> None:
    log = TritonLog(tmp_path / "triton.log", kept=3)
    for text in ("first", "second", "third", "fourth"):
        log.rotate()
        with log.open() as file:
            file.write(text.encode())
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "triton.log": "fourth",
        "triton.log.1": "third",
        "triton.log.2": "second",
    }


def test_a_log_that_was_deleted_has_no_lines_and_begins_anew(tmp_path: Path) -> None:
    log = TritonLog(tmp_path / "run" / "triton.log", kept=1)
    with log.open() as file:
        file.write(b"first\n")
    shutil.rmtree(tmp_path / "run")
    assert log.last_lines() == []
    with log.open() as file:
        file.write(b"second\n")
    assert log.last_lines() == ["second"]


def test_a_large_log_is_put_aside_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_log, "LARGEST_BYTES", 10)
    log = TritonLog(tmp_path / "triton.log", kept=2)
    for text in (b"more than ten bytes\n", b"the next\n"):
        with log.open() as file:
            file.write(text)
    assert log.last_lines() == ["the next"]
    assert (tmp_path / "triton.log.1").read_text() == "more than ten bytes\n"


def test_a_log_that_becomes_large_while_triton_writes_it_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_log, "LARGEST_BYTES", 10)
    log = TritonLog(tmp_path / "triton.log", kept=2)
    with log.open() as file:
        for text in (b"more than ten bytes\n", b"the next\n"):
            file.write(text)
            file.flush()
            log.limit()
    assert log.last_lines() == ["the next"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "triton.log": "the next\n",
        "triton.log.1": "more than ten bytes\n",
    }


def test_what_a_run_left_that_was_killed_with_its_warden_is_removed_and_nothing_of_a_live_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_warden, "SHARED_MEMORY", tmp_path / "shm")
    left, others = tmp_path / "conch-1-8001-ab", tmp_path / "conch-1-8011-cd"
    region = tmp_path / "shm" / "conch-1-8001-ab-region"
    for folder in (left / "packed", others, region.parent):
        folder.mkdir(parents=True)
    region.touch()
    settings, log = ServerSettings(run_directory=tmp_path, triton_grpc_port=8001), TritonLog(tmp_path / "log", kept=2)
    with log.open():
        remove_leftovers(settings, log)
        assert left.exists()
    remove_leftovers(settings, log)
    assert [path.exists() for path in (left, region, others)] == [False, False, True]


def test_a_folder_that_is_called_somewhat_like_those_of_runs_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "notes-on-conch-1-8001-ab").mkdir()
    remove_leftovers(ServerSettings(run_directory=tmp_path, triton_grpc_port=8001), TritonLog(tmp_path / "log", kept=2))
    assert (tmp_path / "notes-on-conch-1-8001-ab").exists()


@pytest.mark.parametrize("content", [b"\xff\xfe", None], ids=["not UTF-8", "a folder"])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    config = model(tmp_path, "a") / "config.pbtxt"
    config.unlink()
    config.mkdir() if content is None else config.write_bytes(content)
    with pytest.raises(RepositoryError, match=rf"{config} cannot be read .*; make it readable, or export"):
        check_repository(tmp_path)
