"""docker-compose.yml starts the same Triton as `conch serve`, reachable only through the gateway."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from conch_gateway import GatewaySettings
from conch_server import ServerSettings, TritonCommand

ROOT = Path(__file__).parents[2]
# What differs between a container and a process on this machine: where things are, and what only our backend needs.
PLACES = {"--model-repository", "--grpc-address", "--metrics-address", "--backend-directory", "--backend-config"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services with variables at their defaults."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    found: dict[str, Any] = yaml.safe_load(text.replace("$$", "$"))["services"]
    return found


def triton_arguments(service: dict[str, Any]) -> dict[str, str]:
    """Option to value, from the shell line of the entrypoint and the command that takes the place of its "$@"."""
    shell = service["entrypoint"][2].replace("$(cat /proc/sys/kernel/random/uuid)", "KEY")
    words = shlex.split(shell)
    assert words[:2] == ["exec", "tritonserver"]
    assert words[-1] == "$@"
    return options([*words[2:-1], *service["command"]])


def options(arguments: list[str]) -> dict[str, str]:
    pairs = {name: value for name, _, value in (argument.partition("=") for argument in arguments)}
    assert len(pairs) == len(arguments), "an option is given twice"
    return pairs


def embedded_arguments(settings: ServerSettings) -> dict[str, str]:
    command = TritonCommand.from_settings(
        settings, admin_key="KEY", backend_directory=PurePosixPath("/run/backends"), shm_prefix="conch-"
    )
    return options(command.arguments())


def test_triton_gets_the_arguments_of_the_embedded_one(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ServerSettings.model_fields:
        monkeypatch.delenv(f"CONCH_{name.upper()}", raising=False)
    composed, embedded = triton_arguments(services["triton"]), embedded_arguments(ServerSettings())
    assert {name for name in composed if name in PLACES} == PLACES - {"--backend-directory", "--backend-config"}
    assert {n: v for n, v in composed.items() if n not in PLACES} == {
        n: v for n, v in embedded.items() if n not in PLACES
    }


def test_triton_reads_the_volume_that_export_writes(services: dict[str, Any]) -> None:
    repository = triton_arguments(services["triton"])["--model-repository"]
    assert f"models:{repository}:ro" in services["triton"]["volumes"]
    assert "models:/models" in services["export"]["volumes"]
    dockerfile = (ROOT / services["export"]["build"]["dockerfile"]).read_text(encoding="utf-8")
    assert "CONCH_MODEL_REPOSITORY=/models" in dockerfile


def test_the_gateway_finds_triton_and_is_published_where_it_listens(services: dict[str, Any]) -> None:
    arguments, gateway = triton_arguments(services["triton"]), services["gateway"]
    assert gateway["command"] == ["--triton-url", f"triton:{arguments['--grpc-port']}"]
    port = gateway["environment"]["CONCH_PORT"]
    assert int(port) == GatewaySettings.model_fields["port"].default
    assert gateway["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_only_the_gateway_can_be_reached(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "ports" in service] == ["gateway"]
    assert services["triton"]["networks"] == ["inside"]
    networks = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["networks"]
    assert networks["inside"] == {"internal": True}


def test_every_service_waits_for_what_it_needs(services: dict[str, Any]) -> None:
    assert services["triton"]["depends_on"] == {"export": {"condition": "service_completed_successfully"}}
    assert services["gateway"]["depends_on"] == {"triton": {"condition": "service_healthy"}}
    assert (
        f":{triton_arguments(services['triton'])['--metrics-port']}/" in services["triton"]["healthcheck"]["test"][-1]
    )


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
