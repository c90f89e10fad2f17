"""Containers start the same Triton as `conch serve`; in compose, only a gateway that can be set up can be reached."""

from __future__ import annotations

import json
import re
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

from deploy.generated import FIXED, SCRIPT

if TYPE_CHECKING:
    from collections.abc import Callable

    Started = Callable[..., tuple[dict[str, str], dict[str, str]]]

ROOT = Path(__file__).parents[2]
COMPOSE = "docker-compose.yml"
PROFILES = {
    "cpu": {"export", "triton", "gateway"},
    "gpu": {"triton-gpu", "gateway"},
    "monitoring": {"prometheus", "grafana"},
}
# What differs between a container and a process on this machine: where things are, and what only the embedded one has.
EMBEDDED = {"--id", "--backend-directory", "--backend-config", "--model-config-name"}
PLACES = {"--model-repository", "--grpc-address", "--metrics-address"} | EMBEDDED


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services with variables at their defaults."""
    text = (ROOT / COMPOSE).read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))["services"]
    return found


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., tuple[dict[str, str], dict[str, str]]]:
    """Runs the script of containers with a tritonserver that says what it was told, by arguments and variables."""
    program = tmp_path / "tritonserver"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" -- && env\n')
    program.chmod(0o755)

    def run(*arguments: str, **environment: str) -> tuple[dict[str, str], dict[str, str]]:
        told = subprocess.run(
            ["/bin/sh", ROOT / SCRIPT, *arguments],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        by_arguments, _, by_environment = told.stdout.partition("--\n")
        return options(by_arguments.splitlines()), options(by_environment.splitlines())

    return run


def options(arguments: list[str]) -> dict[str, str]:
    pairs = {name: value for name, _, value in (argument.partition("=") for argument in arguments)}
    assert len(pairs) == len(arguments), "an option is given twice"
    return pairs


def embedded_arguments(settings: ServerSettings, key: str) -> dict[str, str]:
    arguments = embedded_triton_arguments(settings, backends=PurePosixPath("/run/backends"), name="conch", cores=2)
    return options([*arguments, secret_argument(key, loads_on_demand=settings.triton_admin_key is not None)])


@pytest.mark.parametrize("key", [None, "key-of-triton-in-tests"], ids=["all models at the start", "the gateway loads"])
def test_triton_gets_the_arguments_of_the_embedded_one(
    started: Started, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    for name in ServerSettings.model_fields:
        monkeypatch.delenv(f"CONCH_{name.upper()}", raising=False)
    environment = {} if key is None else {"CONCH_TRITON_ADMIN_KEY": key}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    contained, _ = started(**environment)
    closed_with = contained["--grpc-restricted-protocol"].rpartition("=")[2]
    embedded = embedded_arguments(ServerSettings(), closed_with)
    assert closed_with == key or (key is None and len(closed_with) == 36)
    assert {name for name in contained if name in PLACES} == PLACES - EMBEDDED
    assert {n: v for n, v in contained.items() if n not in PLACES} == {
        n: v for n, v in embedded.items() if n not in PLACES
    }


def test_triton_gets_the_environment_of_the_embedded_one(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    embedded, (_, contained) = find_wheel().environment(), started()
    shared = {"ORT_DISABLE_TELEMETRY", "MALLOC_ARENA_MAX"}
    assert {name: contained[name] for name in shared} == {name: embedded[name] for name in shared}


def test_an_operators_arguments_and_variables_reach_triton(started: Started) -> None:
    arguments, environment = started("--log-verbose=1", MALLOC_ARENA_MAX="4", CONCH_MODEL_REPOSITORY="/mnt/my models")
    assert arguments["--log-verbose"] == "1"
    assert arguments["--model-repository"] == "/mnt/my models"
    assert environment["MALLOC_ARENA_MAX"] == "4"


@pytest.mark.parametrize("name", ["triton", "triton-gpu"])
def test_compose_starts_triton_with_that_script(services: dict[str, Any], name: str) -> None:
    triton = services[name]
    [config] = triton["configs"]
    assert triton["entrypoint"] == ["/bin/sh", config["target"]]
    assert triton["command"] == []
    configs = yaml.safe_load((ROOT / COMPOSE).read_text(encoding="utf-8"))["configs"]
    assert configs[config["source"]] == {"file": f"./{SCRIPT}"}
    assert triton["environment"] == ["CONCH_TRITON_ADMIN_KEY"]


def test_triton_reads_the_volume_that_export_writes(services: dict[str, Any], started: Started) -> None:
    repository = started()[0]["--model-repository"]
    assert f"models:{repository}:ro" in services["triton"]["volumes"]
    assert "models:/models" in services["export"]["volumes"]
    dockerfile = (ROOT / services["export"]["build"]["dockerfile"]).read_text(encoding="utf-8")
    assert "CONCH_MODEL_REPOSITORY=/models" in dockerfile


@pytest.mark.parametrize("name", ["export", "gateway"])
def test_a_new_volume_can_be_written_by_whichever_user_a_service_runs_as(services: dict[str, Any], name: str) -> None:
    """It gets the mode of the folder in the image that it is mounted on."""
    service = services[name]
    mounts = [mount.split(":") for mount in service["volumes"]]
    dockerfile = (ROOT / service["build"]["dockerfile"]).read_text(encoding="utf-8")
    made = re.findall(r"install --directory .*--mode=(\d+) (/.*)$", dockerfile, re.MULTILINE)
    modes = {folder: int(mode, 8) for mode, folders in made for folder in folders.split()}
    assert "user" in service
    assert {target for _, target, *options in mounts if options != ["ro"]} == modes.keys()
    assert all(mode & 0o777 == 0o777 for mode in modes.values())


def test_the_gateway_finds_every_triton_and_is_published_where_it_listens(
    services: dict[str, Any], started: Started
) -> None:
    (arguments, _), gateway = started(), services["gateway"]
    for triton in (services["triton"], services["triton-gpu"]):
        assert triton["networks"] == {"inside": {"aliases": ["triton"]}}
    assert gateway["command"] == ["--triton-url", f"dns:///triton:{arguments['--grpc-port']}"]
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


def test_the_example_has_every_setting_and_the_gateway_takes_its_values(services: dict[str, Any]) -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    chosen = dict(re.findall(r"^#(\w+)=(.*)$", example, re.MULTILINE))
    handed_on = {name for name, value in services["gateway"]["environment"].items() if value is None}
    of_export = set(services["export"]["environment"])
    assert chosen.keys() == variables() | handed_on | of_export | {"COMPOSE_PROFILES"}
    own = {name.removeprefix("CONCH_").lower(): value for name, value in chosen.items() if value and name in handed_on}
    settings = GatewaySettings(**own)
    gateway = services["gateway"]
    assert gateway["volumes"] == ["./deploy/config:/etc/conch:ro", "models:/models:ro", "state:/var/lib/conch"]
    assert gateway["environment"]["CONCH_CANARY_REPOSITORY"] == "/models"
    assert (ROOT / "deploy" / "config").is_dir()
    files = [value for value in settings.model_dump().values() if isinstance(value, Path)]
    assert files
    assert {file.parent for file in files} == {Path("/etc/conch")}


def variables() -> set[str]:
    """Names that compose puts values in for."""
    return set(re.findall(r"\$\{(\w+)", (ROOT / COMPOSE).read_text(encoding="utf-8")))


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


def test_files_with_an_operators_secrets_are_not_committed() -> None:
    files = (".env", "deploy/config/keys.json", "deploy/config/upstream-keys.env", "deploy/prometheus/metrics-key")
    ignored = subprocess.run(["git", "check-ignore", *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert tuple(ignored.stdout.split()) == files


def test_only_the_gateway_and_on_this_machine_the_monitoring_can_be_reached(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published.keys() == {"gateway", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    networks = yaml.safe_load((ROOT / COMPOSE).read_text(encoding="utf-8"))["networks"]
    assert networks["inside"] == {"internal": True}


def test_every_service_waits_for_what_it_needs(services: dict[str, Any], started: Started) -> None:
    assert services["triton"]["depends_on"] == {"export": {"condition": "service_completed_successfully"}}
    # The one of the other profile is not there.
    awaited = {"condition": "service_healthy", "required": False}
    assert services["gateway"]["depends_on"] == {"triton": awaited, "triton-gpu": awaited}
    for name in ("triton", "triton-gpu"):
        assert f":{started()[0]['--metrics-port']}/" in services[name]["healthcheck"]["test"][-1]


@pytest.mark.parametrize("name", sorted({name for names in PROFILES.values() for name in names}))
def test_no_service_can_write_its_image_or_gain_privileges(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()


def test_images_of_others_are_pinned(services: dict[str, Any]) -> None:
    images = [service["image"] for service in services.values() if "build" not in service]
    assert len(images) == 4
    assert all(re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", image) for image in images), images


@pytest.mark.parametrize("profile", PROFILES)
def test_docker_compose_accepts_the_file(profile: str) -> None:
    compose = Path(sys.executable).with_name("docker-compose")
    checked = subprocess.run(
        [compose, "--file", ROOT / COMPOSE, "--profile", profile, "config", "--format", "json"],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["services"].keys() == PROFILES[profile]


def test_a_gpu_is_reserved_for_the_triton_that_computes_on_one(services: dict[str, Any]) -> None:
    [device] = services["triton-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "1", "capabilities": ["gpu"]}
