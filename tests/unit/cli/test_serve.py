"""`conch serve` ends, with a plain message and status 1, when a part of it is missing or has ceased to work."""

from __future__ import annotations

import gc
import re
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import conch_server
import pytest
import typer
from conch import serve
from conch.app import app
from conch.options import DEFAULT_REPOSITORY
from conch_gateway import GatewaySettings
from conch_server import ServerSettings
from typer.testing import CliRunner

from tests.serving import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Watched:
    """A supervisor whose watch ends."""

    def __init__(self, *_: object) -> None:
        pass

    async def __aenter__(self) -> Watched:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def abort(self) -> None:
        pass

    async def wait(self) -> None:
        raise conch_server.ServingError("Triton is no longer watched: MemoryError()")


async def _fails(_: object) -> None:
    raise OSError("no descriptor left")


@pytest.mark.parametrize(
    ("patch", "flags", "told"),
    [
        pytest.param(
            lambda patched: patched.setattr(conch_server, "Supervisor", Watched),
            ["--triton-grpc-port={}"],
            "error: Triton is no longer watched: MemoryError()",
            id="the watch over Triton",
        ),
        pytest.param(
            lambda patched: patched.setattr("uvicorn.Server.main_loop", _fails),
            ["--triton-url=127.0.0.1:{}"],
            "error: the gateway no longer serves: OSError('no descriptor left')",
            id="the gateway",
        ),
    ],
)
def test_it_ends_when_a_part_does(
    monkeypatch: pytest.MonkeyPatch, patch: Callable[[pytest.MonkeyPatch], Any], flags: list[str], told: str
) -> None:
    patch(monkeypatch)
    port, triton_port = free_ports(2)
    ended = CliRunner().invoke(app, ["serve", f"--port={port}", *(flag.format(triton_port) for flag in flags)])
    assert ended.exit_code == 1
    assert told in ended.output


def test_a_database_that_cannot_be_used_is_told_before_triton_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[object] = []

    class Started(Watched):
        async def __aenter__(self) -> Watched:
            started.append(self)
            return self

    (tmp_path / "file").touch()
    monkeypatch.setenv("CONCH_BATCH_DATABASE", str(tmp_path / "file" / "batches.db"))
    monkeypatch.setattr(conch_server, "Supervisor", Started)
    port, triton_port = free_ports(2)
    ended = CliRunner().invoke(app, ["serve", f"--port={port}", f"--triton-grpc-port={triton_port}"])
    assert ended.exit_code == 1
    assert "name a file that the gateway may write" in ended.output
    assert not started


def test_triton_gets_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conch_contract.usable_cores", lambda: 7)
    supervisor = serve._supervisor_of(GatewaySettings(port=free_ports(1)[0]), ServerSettings())
    assert supervisor._cores == 7


def test_an_interrupted_export_names_what_completing_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".staging" / "ready").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "conch_export.triton.publish", None)  # its import raises ModuleNotFoundError
    ended = CliRunner().invoke(app, ["serve", f"--repository={tmp_path}"])
    assert ended.exit_code == 1
    assert "was interrupted" in ended.output
    assert "pip install 'conch[export]'" in ended.output
    assert "conch[gateway,server]" not in ended.output


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("CONCH_TIMEOUT_S", "inf", "error: CONCH_TIMEOUT_S: Input should be a finite number"),
        ("CONCH_START_TIMEOUT_S", "inf", "error: CONCH_START_TIMEOUT_S: Input should be a finite number"),
        (
            "CONCH_TRITON_HOST",
            "triton.example",
            "error: CONCH_TRITON_HOST: triton.example is not an IPv4 loopback address",
        ),
        (
            "CONCH_TLS_KEY",
            "key.pem",
            "error: CONCH_TLS_KEY is set without a certificate; set CONCH_TLS_CERTIFICATE too",
        ),
        (
            "CONCH_CORS_ORIGINS",
            "https://a.example/",
            "error: CONCH_CORS_ORIGINS: https://a.example/ is no origin; write",
        ),
        ("CONCH_CORS_ORIGINS", "*,a.example", "error: CONCH_CORS_ORIGINS: a.example is no origin; write scheme, host"),
        ("CONCH_TRITON_URL", "triton", "error: CONCH_TRITON_URL: url must be host:port of Triton's gRPC endpoint"),
        ("CONCH_TRITON_URL", "triton:grpc", "error: CONCH_TRITON_URL: url must be host:port of Triton's gRPC endpoint"),
        ("CONCH_OTLP_ENDPOINT", "nonsense", "error: CONCH_OTLP_ENDPOINT: must be scheme, host and port alone"),
        ("CONCH_OTLP_ENDPOINT", "collector:4317", "error: CONCH_OTLP_ENDPOINT: must be scheme, host and port alone"),
        ("CONCH_OTLP_ENDPOINT", "http://collector", "error: CONCH_OTLP_ENDPOINT: must be scheme, host and port alone"),
        (
            "CONCH_OTLP_ENDPOINT",
            "http://collector:4318/v1/traces",
            "error: CONCH_OTLP_ENDPOINT: must be scheme, host and port alone",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_right(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str, value: str, told: str
) -> None:
    monkeypatch.setenv("CONCH_MODEL_REPOSITORY", str(tmp_path))
    monkeypatch.setenv(setting, value)
    ended = CliRunner().invoke(app, ["serve", f"--port={free_ports(1)[0]}"])
    assert ended.exit_code == 1
    assert ended.output.startswith(told)


@pytest.mark.parametrize(
    ("served", "warnings"),
    [
        (["letters", "pairs"], ["CONCH_EMBEDDING_MODEL is leters, which is not served; choose among: letters, pairs"]),
        (["leters", "pairs"], []),
        ([], []),
    ],
    ids=["misspelt", "served", "nothing is known"],
)
def test_a_default_model_that_is_not_served_is_logged(
    caplog: pytest.LogCaptureFixture, served: list[str], warnings: list[str]
) -> None:
    serve._warn_of_defaults(GatewaySettings(embedding_model="leters"), set(served))
    assert caplog.messages == warnings


def test_its_help_states_the_defaults_of_the_settings() -> None:
    command: Any = typer.main.get_command(app)
    helps = " ".join(option.help or "" for option in command.commands["serve"].params)
    settings = {f"CONCH_{n.upper()}": f for s in (GatewaySettings, ServerSettings) for n, f in s.model_fields.items()}
    stated = re.findall(r"\[env var: (\w+); default: ([^\]]+)\]", helps)
    assert len(stated) == 6
    assert stated == [(name, str(settings[name].default)) for name, _ in stated]


def test_other_commands_have_the_defaults_of_the_settings_too() -> None:
    gateway, server = GatewaySettings.model_fields, ServerSettings.model_fields
    command: Any = typer.main.get_command(app)
    bench = {option.name: option.default for option in command.commands["bench"].params}
    assert bench["url"] == f"http://{gateway['host'].default}:{gateway['port'].default}"
    assert bench["triton_url"] == gateway["triton_url"].default
    assert server["model_repository"].default == DEFAULT_REPOSITORY


async def test_what_is_loaded_is_exempt_from_garbage_collection_once_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answers(*_: object) -> list[dict[str, Any]]:
        return []

    monkeypatch.setattr(serve, "_models_that_answer", answers)
    gateway: Any = SimpleNamespace(url="http://127.0.0.1:8080", headers={})
    try:
        await serve._announce(gateway, GatewaySettings())
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ["--triton-url=triton:8001", "--repository=models"],
            "--repository is about a Triton that this command starts",
        ),
        (["--triton-url=triton:8001", "--triton-grpc-port=9001"], "--triton-grpc-port is about a Triton that this"),
        (["--triton-url=triton:8001", "--no-gateway"], "--no-gateway is about a Triton that this command starts"),
        (["--no-gateway", "--port=9080"], "--port is the gateway's, which --no-gateway leaves out"),
    ],
    ids=" ".join,
)
def test_a_flag_that_would_change_nothing_is_refused(flags: list[str], told: str) -> None:
    ended = CliRunner().invoke(app, ["serve", *flags])
    assert ended.exit_code == 1
    assert ended.output.startswith(f"error: {told}")
