"""Command line and environment of tritonserver, the same for the embedded one and for one in a container.

Containers start `deploy/triton/tritonserver.sh`, which is generated from this module: all serve and refuse the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_server._cores import config_name

if TYPE_CHECKING:
    from pathlib import PurePath

    from conch_server._settings import ServerSettings

ENVIRONMENT = {
    # Since 1.29 onnxruntime reports its use to Microsoft unless told not to (microsoft/onnxruntime#27379).
    "ORT_DISABLE_TELEMETRY": "1",
    # By default glibc has eight arenas per core, and memory freed in one is not reused by threads of another.
    "MALLOC_ARENA_MAX": "2",
}
"""Variables of every tritonserver; those of the operator win."""
# Clients can read or write memory and files through these, and neither conch's client nor the gateway uses them.
RESTRICTED_PROTOCOLS = ("shared-memory", "trace", "logging")
# A request to load a model may carry files, which Triton then runs; so once models can be loaded, this is restricted
# too. Triton lists its repository in the same protocol: clients list the loaded models by their statistics instead.
MODEL_CONTROL = "model-repository"


def triton_arguments(settings: ServerSettings, *, backends: PurePath, name: str, cores: int) -> list[str]:
    """Return the arguments of the embedded tritonserver but for the program and the secret one.

    With `triton_admin_key` Triton loads no model at the start, and the key's bearer may load and unload models.

    Args:
        settings: The embedded Triton's settings.
        backends: Folder with Triton's backends.
        name: Name of the server, new at every start; the names of its shared memory regions begin with it.
        cores: Cores that models are fitted to.
    """
    return [
        f"--id={name}",
        f"--model-config-name={config_name(cores)}",
        f"--backend-directory={backends}",
        # Triton passes options of `python` on to python-based backends.
        f"--backend-config=python,shm-region-prefix-name={name}-",
        *common_arguments(settings, repository=str(settings.model_repository.absolute())),
        control_argument(loads_on_demand=settings.triton_admin_key is not None),
    ]


def common_arguments(settings: ServerSettings, *, repository: str) -> list[str]:
    """Return the arguments that depend neither on how tritonserver is installed nor on a key."""
    metrics = (
        ["--allow-metrics=false"]
        if not settings.triton_metrics_port
        else [
            f"--metrics-address={settings.triton_host}",
            f"--metrics-port={settings.triton_metrics_port}",
            "--allow-gpu-metrics=false",
        ]
    )
    return [
        f"--model-repository={repository}",
        "--disable-auto-complete-config",
        "--rate-limit=execution_count",
        f"--model-load-thread-count={settings.triton_load_threads}",
        f"--exit-timeout-secs={settings.exit_timeout_s}",
        "--log-format=ISO8601",
        "--allow-http=false",
        f"--grpc-address={settings.triton_host}",
        f"--grpc-port={settings.triton_grpc_port}",
        *metrics,
    ]


def control_argument(*, loads_on_demand: bool) -> str:
    """Return the argument that says whether models are loaded by the gateway, or all at the start."""
    return f"--model-control-mode={'explicit' if loads_on_demand else 'none'}"


def secret_argument(key: str, *, loads_on_demand: bool) -> str:
    """Return the argument that restricts protocols to callers who send `key`; other users must not read it."""
    restricted = (*RESTRICTED_PROTOCOLS, MODEL_CONTROL) if loads_on_demand else RESTRICTED_PROTOCOLS
    return f"--grpc-restricted-protocol={','.join(restricted)}:conch-admin={key}"
