"""docker-compose.yml starts the same Triton as `conch serve`, reachable only through a gateway that can be set up."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import yaml
from conch_gateway import GatewaySettings
from conch_server import ServerSettings
from conch_server._arguments import secret_argument
from conch_server._arguments import triton_arguments as embedded_triton_arguments
from conch_server._wheel import find_wheel

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
# What differs between a container and a process on this machine: where things are, and what only the embedded one has.
EMBEDDED = {"--id", "--backend-directory", "--backend-config", "--model-config-name"}
PLACES = {"--model-repository", "--grpc-address", "--metrics-address"} | EMBEDDED
# Settings of the gateway that cannot be changed from outside the container, and why.
FIXED = {
    "CONCH_HOST": "the container's address is the network's; CONCH_BIND says where it is published",
    "CONCH_PORT": "the same inside every container; CONCH_PORT of the host says where it is published",
    "CONCH_TRITON_URL": "the command says it, as `conch serve` starts a Triton of its own otherwise",
    "CONCH_SHUTDOWN_GRACE_S": "stop_grace_period has to be longer, or Docker ends the requests it is for",
}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services with variables at their defaults."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    found: dict[str, Any] = yaml.safe_load(text.replace("$$", "$"))["services"]
    return found


@pytest.fixture
def triton_arguments(services: dict[str, Any], tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Runs the entrypoint of compose with a tritonserver that only says what it was told: option to value."""
    program = tmp_path / "tritonserver"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    triton = services["triton"]

    def run(**environment: str) -> dict[str, str]:
        told = subprocess.run(
            [*triton["entrypoint"], *triton["command"]],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return options(told.stdout.splitlines())

    return run


def options(arguments: list[str]) -> dict[str, str]:
    pairs = {name: value for name, _, value in (argument.partition("=") for argument in arguments)}
    assert len(pairs) == len(arguments), "an option is given twice"
    return pairs


def embedded_arguments(settings: ServerSettings, key: str) -> dict[str, str]:
    arguments = embedded_triton_arguments(settings, backends=PurePosixPath("/run/backends"), name="conch")
    return options([*arguments, secret_argument(settings, key)])


@pytest.mark.parametrize("key", [None, "key-of-triton-in-tests"], ids=["all models at the start", "the gateway loads"])
def test_triton_gets_the_arguments_of_the_embedded_one(
    triton_arguments: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    for name in ServerSettings.model_fields:
        monkeypatch.delenv(f"CONCH_{name.upper()}", raising=False)
    environment = {} if key is None else {"CONCH_TRITON_ADMIN_KEY": key}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    composed = triton_arguments(**environment)
    closed_with = composed["--grpc-restricted-protocol"].rpartition("=")[2]
    embedded = embedded_arguments(ServerSettings(), closed_with)
    assert closed_with == key or (key is None and len(closed_with) == 36)
    assert {name for name in composed if name in PLACES} == PLACES - EMBEDDED
    assert {n: v for n, v in composed.items() if n not in PLACES} == {
        n: v for n, v in embedded.items() if n not in PLACES
    }


def test_triton_gets_the_environment_of_the_embedded_one(services: dict[str, Any]) -> None:
    embedded, composed = find_wheel().environment(), services["triton"]["environment"]
    shared = {"ORT_DISABLE_TELEMETRY", "MALLOC_ARENA_MAX"}
    assert {name: composed[name] for name in shared} == {name: embedded[name] for name in shared}


def test_triton_reads_the_volume_that_export_writes(
    services: dict[str, Any], triton_arguments: Callable[..., dict[str, str]]
) -> None:
    repository = triton_arguments()["--model-repository"]
    assert f"models:{repository}:ro" in services["triton"]["volumes"]
    assert "models:/models" in services["export"]["volumes"]
    dockerfile = (ROOT / services["export"]["build"]["dockerfile"]).read_text(encoding="utf-8")
    assert "CONCH_MODEL_REPOSITORY=/models" in dockerfile


def test_the_gateway_finds_triton_and_is_published_where_it_listens(
    services: dict[str, Any], triton_arguments: Callable[..., dict[str, str]]
) -> None:
    arguments, gateway = triton_arguments(), services["gateway"]
    assert gateway["command"] == ["--triton-url", f"triton:{arguments['--grpc-port']}"]
    port = gateway["environment"]["CONCH_PORT"]
    assert int(port) == GatewaySettings.model_fields["port"].default
    assert gateway["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_every_setting_of_the_gateway_is_handed_on_or_has_its_reason(services: dict[str, Any]) -> None:
    settings = {f"CONCH_{name.upper()}" for name in GatewaySettings.model_fields}
    handed_on = {name for name, value in services["gateway"]["environment"].items() if value is None}
    assert handed_on == settings - FIXED.keys()
    assert settings >= FIXED.keys()


def test_requests_in_flight_may_finish_before_docker_ends_the_gateway(services: dict[str, Any]) -> None:
    grace_s = GatewaySettings.model_fields["shutdown_grace_s"].default
    assert int(services["gateway"]["stop_grace_period"].removesuffix("s")) > grace_s


def test_the_example_sets_what_there_is_to_files_that_the_gateway_can_read(services: dict[str, Any]) -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    chosen = dict(re.findall(r"^#(\w+)=(.*)$", example, re.MULTILINE))
    gateway = services["gateway"]
    assert chosen.keys() <= variables() | gateway["environment"].keys()
    own = {name.removeprefix("CONCH_").lower(): value for name, value in chosen.items() if name not in FIXED}
    settings = GatewaySettings(**{name: value for name, value in own.items() if name in GatewaySettings.model_fields})
    assert gateway["volumes"] == ["./deploy/config:/etc/conch:ro"]
    assert (ROOT / "deploy" / "config").is_dir()
    files = [value for value in settings.model_dump().values() if isinstance(value, Path)]
    assert files
    assert {file.parent for file in files} == {Path("/etc/conch")}


def test_every_variable_of_compose_is_explained() -> None:
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", page, flags=re.MULTILINE)
    told = next(part for part in section if part.startswith("Compose"))
    assert variables() <= set(re.findall(r"`(\w+)`", told))


def variables() -> set[str]:
    """Names that compose puts values in for."""
    return set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/health/ready" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.mark.parametrize("tls", [False, True], ids=["HTTP", "HTTPS"])
@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)], ids=["ready", "not ready"])
def test_the_gateways_image_is_healthy_when_the_gateway_is_ready(
    tmp_path: Path, tls: bool, status: int, healthy: bool
) -> None:
    dockerfile = (ROOT / "deploy" / "gateway.Dockerfile").read_text(encoding="utf-8")
    assert 'CMD ["python", "/opt/conch/is_ready.py"]' in dockerfile
    nowhere = "http://127.0.0.1:9"
    environment = {"PATH": "/usr/bin:/bin", "http_proxy": nowhere, "https_proxy": nowhere}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Health) as server:
        server.status = status  # type: ignore[attr-defined]
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trustme.CA().issue_cert("gateway.example.org").configure_cert(context)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            environment["CONCH_TLS_CERTIFICATE"] = "/etc/conch/certificate.pem"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        program, port = ROOT / "deploy" / "is_ready.py", str(server.server_port)
        run = subprocess.run([sys.executable, program], env=environment | {"CONCH_PORT": port}, check=False)
        server.shutdown()
    assert (run.returncode == 0) == healthy


def test_only_the_gateway_can_be_reached(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "ports" in service] == ["gateway"]
    assert services["triton"]["networks"] == ["inside"]
    networks = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["networks"]
    assert networks["inside"] == {"internal": True}


def test_every_service_waits_for_what_it_needs(
    services: dict[str, Any], triton_arguments: Callable[..., dict[str, str]]
) -> None:
    assert services["triton"]["depends_on"] == {"export": {"condition": "service_completed_successfully"}}
    assert services["gateway"]["depends_on"] == {"triton": {"condition": "service_healthy"}}
    assert f":{triton_arguments()['--metrics-port']}/" in services["triton"]["healthcheck"]["test"][-1]


@pytest.mark.parametrize("name", ["export", "triton", "gateway"])
def test_no_service_can_write_its_image_or_gain_privileges(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()


@pytest.mark.parametrize("name", ["export", "gateway"])
def test_our_images_run_as_nobody_in_particular(name: str) -> None:
    dockerfile = (ROOT / "deploy" / f"{name}.Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^USER 10001", dockerfile, re.MULTILINE)


def test_the_image_of_triton_is_pinned(services: dict[str, Any]) -> None:
    assert re.fullmatch(r"nvcr\.io/nvidia/tritonserver:\d\d\.\d\d-py3", services["triton"]["image"])


def test_docker_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("this docker has no compose plugin")
    checked = subprocess.run(
        [docker, "compose", "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
