"""Settings of the embedded Triton: flag > environment (`CONCH_` and the field's name) > default."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

KEY = re.compile(r"[A-Za-z0-9_-]{16,128}")
Port = Annotated[int, Field(ge=1, le=65535)]


def _loopback(host: str) -> str:
    """Loopback only, because the wheel's Triton, release 24.10, has known holes."""
    # Triton joins address and port by a colon, and takes no IPv6 address for metrics.
    with contextlib.suppress(ValueError):
        if host == "localhost" or ipaddress.IPv4Address(host).is_loopback:
            return host
    raise ValueError(
        f"{host} is not an IPv4 loopback address, such as 127.0.0.1; to serve other machines use docker compose"
    )


def _strong(key: SecretStr) -> SecretStr:
    """Letters and digits only: in Triton's argument colons, equals signs and commas separate the key from the rest."""
    if not KEY.fullmatch(key.get_secret_value()):
        raise ValueError("write at least 16 letters, digits, - or _, as `openssl rand -hex 16` does")
    return key


class ServerSettings(BaseSettings):
    """Settings of the embedded Triton; its HTTP endpoint is always off."""

    model_config = SettingsConfigDict(
        env_prefix="CONCH_",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    model_repository: Path = Field(
        default=Path("model_repository"), description="Folder of the models that Triton loads."
    )
    run_directory: Path = Field(
        default=Path(".run"), description="Folder for Triton's log and for files of the running Triton."
    )
    triton_host: Annotated[str, AfterValidator(_loopback)] = Field(
        default="127.0.0.1", description="Loopback address (IPv4) that Triton listens on."
    )
    triton_grpc_port: Port = Field(default=8001, description="TCP port of Triton's gRPC endpoint (KServe v2).")
    triton_metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8002, description="TCP port of Triton's Prometheus metrics; 0 turns them off."
    )
    triton_admin_key: Annotated[SecretStr, AfterValidator(_strong)] | None = Field(
        default=None,
        description="Key with which the gateway loads and unloads models; unset, Triton loads all at the start.",
    )
    triton_cores: PositiveInt | None = Field(
        default=None,
        description="Cores that Triton computes on: models exported without --cores get an instance for each. Unset, "
        "those that `conch serve` may run on, and no more than the CPU quota of its container.",
    )
    triton_load_threads: PositiveInt = Field(
        default=4, description="Number of models that Triton loads at the same time."
    )
    triton_log_files: PositiveInt = Field(
        default=5, description="Number of Triton's logs that are kept, the current one included."
    )
    start_timeout_s: PositiveFloat = Field(
        default=120.0, description="Seconds from the start of Triton until every model must answer ready."
    )
    exit_timeout_s: PositiveInt = Field(
        default=30, description="Seconds that requests in flight get to finish when Triton is stopped."
    )
    probe_interval_s: PositiveFloat = Field(default=2.0, description="Seconds between two checks that Triton is alive.")
    probe_timeout_s: PositiveFloat = Field(default=10.0, description="Seconds that Triton has to answer a check.")
    probe_failures: PositiveInt = Field(
        default=3, description="Checks in a row without an answer after which Triton is killed and started again."
    )
    restart_backoff_s: PositiveFloat = Field(
        default=0.5,
        description="Seconds before the second restart in a row; doubled every time (the first is immediate).",
    )
    restart_backoff_max_s: PositiveFloat = Field(default=2.0, description="Longest wait before a restart, in seconds.")
    restart_forget_s: PositiveFloat = Field(
        default=10.0, description="Seconds of service after which the back-off starts again from the beginning."
    )
