"""The one place where tritonserver's command line is made.

`docker-compose.yml` is tested to start the official image with the same arguments, paths and hosts aside, so that what
is served and what is refused is the same in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch_server._cores import CONFIG_NAME

if TYPE_CHECKING:
    from pathlib import PurePath

    from conch_server._settings import ServerSettings

# Neither the client nor the gateway uses these, and through them others could read or write memory and files.
RESTRICTED_PROTOCOLS = ("shared-memory", "trace", "logging")
# A load may bring files along, which are then run. Where models can be loaded at all, that takes the key; the list of
# the repository is in the same group, so clients list the loaded models by their statistics there.
MODEL_CONTROL = "model-repository"


@dataclass(frozen=True)
class TritonCommand:
    """What tritonserver is to do.

    `admin_key` opens the restricted protocols to who sends it as the header `triton-grpc-protocol-conch-admin`. Only
    `secret_argument` has it, which other users must not read. With `explicit`, no model is loaded at the start, and
    the key lets its bearer load and unload. `name`, of this start alone, is the server's, and begins the names of its
    shared memory.
    """

    model_repository: PurePath
    grpc_host: str
    grpc_port: int
    admin_key: str
    explicit: bool
    metrics_host: str
    metrics_port: int
    exit_timeout_s: int
    load_threads: int
    backend_directory: PurePath
    name: str

    @classmethod
    def from_settings(
        cls, settings: ServerSettings, *, admin_key: str, backend_directory: PurePath, name: str
    ) -> TritonCommand:
        """Describe the Triton of the settings, and what is new at every start."""
        return cls(
            model_repository=settings.model_repository.absolute(),
            grpc_host=settings.triton_host,
            grpc_port=settings.triton_grpc_port,
            admin_key=admin_key,
            explicit=settings.triton_admin_key is not None,
            metrics_host=settings.triton_host,
            metrics_port=settings.triton_metrics_port,
            exit_timeout_s=settings.exit_timeout_s,
            load_threads=settings.triton_load_threads,
            backend_directory=backend_directory,
            name=name,
        )

    def arguments(self) -> list[str]:
        """Tritonserver's arguments, without the program and without the secret one."""
        return [
            f"--id={self.name}",
            f"--model-repository={self.model_repository}",
            f"--model-config-name={CONFIG_NAME}",
            f"--model-control-mode={'explicit' if self.explicit else 'none'}",
            "--disable-auto-complete-config",
            "--rate-limit=execution_count",
            f"--model-load-thread-count={self.load_threads}",
            f"--exit-timeout-secs={self.exit_timeout_s}",
            "--log-format=ISO8601",
            "--allow-http=false",
            f"--grpc-address={self.grpc_host}",
            f"--grpc-port={self.grpc_port}",
            *self._metrics(),
            f"--backend-directory={self.backend_directory}",
            # Triton hands the options of `python` on to python-based backends.
            f"--backend-config=python,shm-region-prefix-name={self.name}-",
        ]

    def secret_argument(self) -> str:
        """The argument with the key."""
        restricted = (*RESTRICTED_PROTOCOLS, MODEL_CONTROL) if self.explicit else RESTRICTED_PROTOCOLS
        return f"--grpc-restricted-protocol={','.join(restricted)}:conch-admin={self.admin_key}"

    def _metrics(self) -> list[str]:
        if not self.metrics_port:
            return ["--allow-metrics=false"]
        return [
            f"--metrics-address={self.metrics_host}",
            f"--metrics-port={self.metrics_port}",
            "--allow-gpu-metrics=false",
        ]
