"""Command line of tritonserver.

`docker-compose.yml` starts the official image with the same arguments, paths and hosts aside (a test compares them), so
both serve and refuse the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_server._cores import CONFIG_NAME

if TYPE_CHECKING:
    from pathlib import PurePath

    from conch_server._settings import ServerSettings

# Clients can read or write memory and files through these, and neither conch's client nor the gateway uses them.
RESTRICTED_PROTOCOLS = ("shared-memory", "trace", "logging")
# A request to load a model may carry files, which Triton then runs; so once models can be loaded, this is restricted
# too. Triton lists its repository in the same protocol: clients list the loaded models by their statistics instead.
MODEL_CONTROL = "model-repository"


def triton_arguments(settings: ServerSettings, *, backends: PurePath, name: str) -> list[str]:
    """Return the arguments of tritonserver but for the program and the secret one.

    With `triton_admin_key` Triton loads no model at the start, and the key's bearer may load and unload models.

    Args:
        settings: The embedded Triton's settings.
        backends: Folder with Triton's backends.
        name: Name of the server, new at every start; the names of its shared memory regions begin with it.
    """
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
        f"--id={name}",
        f"--model-repository={settings.model_repository.absolute()}",
        f"--model-config-name={CONFIG_NAME}",
        f"--model-control-mode={'none' if settings.triton_admin_key is None else 'explicit'}",
        "--disable-auto-complete-config",
        "--rate-limit=execution_count",
        f"--model-load-thread-count={settings.triton_load_threads}",
        f"--exit-timeout-secs={settings.exit_timeout_s}",
        "--log-format=ISO8601",
        "--allow-http=false",
        f"--grpc-address={settings.triton_host}",
        f"--grpc-port={settings.triton_grpc_port}",
        *metrics,
        f"--backend-directory={backends}",
        # Triton passes options of `python` on to python-based backends.
        f"--backend-config=python,shm-region-prefix-name={name}-",
    ]


def secret_argument(settings: ServerSettings, key: str) -> str:
    """Return the argument that restricts protocols to callers who send `key`; other users must not read it."""
    restricted = RESTRICTED_PROTOCOLS if settings.triton_admin_key is None else (*RESTRICTED_PROTOCOLS, MODEL_CONTROL)
    return f"--grpc-restricted-protocol={','.join(restricted)}:conch-admin={key}"
