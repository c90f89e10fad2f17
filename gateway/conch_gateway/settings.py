"""The gateway's settings: one frozen object, built once at the edge and passed whole."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from conch_contract import Truncate
from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

Load = Literal["start", "lazy", "demand"]
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/*\s]+")
_COLLECTOR = re.compile(r"https?://[^\s/?#@]+:\d+/?")


def _origins(listed: str) -> str:
    """Browsers compare origins as they send them: one with a path, or without a scheme, would never match."""
    for origin in filter(None, map(str.strip, listed.split(","))):
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin} is no origin; write scheme, host and port alone, as in https://app.example:8443"
            )
    return listed


def _collector(endpoint: str) -> str:
    """Check for a host and a port: gRPC would drop a path, such as that of a collector's HTTP endpoint."""
    with contextlib.suppress(ValueError):  # no port is above 65535
        if _COLLECTOR.fullmatch(endpoint) and urlsplit(endpoint).port:
            return endpoint
    raise ValueError(
        "must be scheme, host and port alone of a collector's gRPC endpoint, as in http://127.0.0.1:4317; https for TLS"
    )


def header_secret(text: str) -> str:
    """Return a secret without the space around it: files of secrets often end in a line end, and headers never do.

    Raises:
        ValueError: nothing is left, or it has a character that no header has; the message does not repeat it.
    """
    secret = text.strip()
    if not secret:
        raise ValueError("is empty; write a key of ASCII letters, digits and signs")
    if not (secret.isascii() and secret.isprintable()):
        raise ValueError("has a character that no header may have; write a key of ASCII letters, digits and signs")
    return secret


def _secret(key: SecretStr) -> SecretStr:
    return SecretStr(header_secret(key.get_secret_value()))


def _tritons_secret(key: SecretStr) -> SecretStr:
    if header_secret(key.get_secret_value()) != key.get_secret_value():
        raise ValueError(
            "begins or ends with a space or a line end, which is a part of the key for Triton; leave it out"
        )
    return key


class _Environment(EnvSettingsSource):
    """The variables that are set. No field is JSON: pydantic's own class finds that out for each, set or not."""

    def __call__(self) -> dict[str, Any]:
        variables = {name: f"{self.env_prefix}{name}".lower() for name in self.settings_cls.model_fields}
        return {name: self.env_vars[variable] for name, variable in variables.items() if variable in self.env_vars}


class GatewaySettings(BaseSettings):
    """Settings of the REST gateway; the environment variable is the name in capitals after `CONCH_`."""

    model_config = SettingsConfigDict(
        env_prefix="CONCH_",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface.")
    port: int = Field(8080, ge=0, le=65_535, description="TCP port to listen on; 0 takes a free one.")
    triton_url: str = Field(
        "127.0.0.1:8001",
        description="host:port of Triton's gRPC endpoint. Several Tritons share the calls: divide them by commas, or "
        "name a host whose every address is one, which is looked up again and again: dns:///triton-headless:8001.",
    )
    embedding_model: str | None = Field(
        None, description="Embedding model for requests that name none; unset takes the first by name."
    )
    rerank_model: str | None = Field(
        None, description="Reranking model for requests that name none; unset takes the first by name."
    )
    models_file: Path | None = Field(
        None, description="TOML file of aliases, of models that are loaded later, and of upstreams."
    )
    load: Load = Field(
        "start",
        description="When models are loaded that the models file does not mention: at the start, by their first "
        "request, or by an administrator only. lazy and demand need CONCH_TRITON_ADMIN_KEY.",
    )
    admin_key: Annotated[SecretStr, AfterValidator(_secret)] | None = Field(
        None,
        description="Key for /admin, where models are loaded and unloaded; API keys of administrators open it too.",
    )
    triton_admin_key: Annotated[SecretStr, AfterValidator(_tritons_secret)] | None = Field(
        None, description="Secret that Triton requires for loading and unloading models; unset, it does neither."
    )
    api_keys_file: Path | None = Field(
        None, description="File of API keys, made with `conch keys create`; read again when it changes."
    )
    api_keys: SecretStr | None = Field(
        None,
        description="API keys beside those of the file: NAME:KEY or NAME:KEY:admin, divided by commas. With neither, "
        "no key is needed.",
    )
    cors_origins: Annotated[str, AfterValidator(_origins)] = Field(
        "",
        description="Origins, divided by commas, whose pages may call the gateway from a browser, such as "
        "https://app.example; * for all.",
    )
    tls_certificate: Path | None = Field(None, description="Certificate chain in PEM; set, the gateway speaks HTTPS.")
    tls_key: Path | None = Field(None, description="Private key of the certificate in PEM, where it is another file.")
    tls_key_password: SecretStr | None = Field(None, description="Password of the private key.")
    truncate: Truncate = Field(
        "end", description="What is cut from a text longer than the model's limit: end, start, or none (answer 400)."
    )
    max_body_bytes: int = Field(8 * 2**20, ge=1, description="Largest request body in bytes; a larger one gets 413.")
    max_inputs: int = Field(2_048, ge=1, description="Most texts or documents in one request; more get 400.")
    max_in_flight_requests: int = Field(
        512, ge=1, description="Most requests computed or queued at once; further ones get 429."
    )
    max_in_flight_texts: int = Field(
        16_384, ge=1, description="Most texts and documents computed or queued at once; further ones get 429."
    )
    max_in_flight_tokens: int = Field(
        262_144,
        ge=1,
        description="Most tokens computed or queued at once, estimated until texts are tokenised; further ones get "
        "429. A larger request is taken when there is no other.",
    )
    triton_calls: int | None = Field(
        None,
        ge=1,
        description="Most calls to each Triton at once; further ones wait in the gateway, where small requests are "
        "merged and overtake long lists. Unset, two for each instance of the encoder that has most, times an "
        "eighth of its max_batch_size where that is more than 8.",
    )
    triton_wait_s: float = Field(
        0.0,
        ge=0,
        description="Seconds that a request waits, within its time-out, while Triton cannot be reached, before it gets "
        "503. Unless this is 0, the gateway is ready without a Triton, so that one may be started for requests that "
        "wait.",
    )
    cache_mb: int = Field(
        0, ge=0, description="MiB of vectors that are cached, so that a text is computed once; 0 caches none."
    )
    redis_url: SecretStr | None = Field(
        None,
        description="Redis in which several gateways share what keys have used in a minute and, where CONCH_CACHE_MB "
        "is not 0, vectors: redis://:PASSWORD@HOST:6379/0, rediss:// for TLS, or unix:///PATH. Unset, or while it does "
        "not answer, each gateway is on its own. Needs conch[redis].",
    )
    redis_prefix: str = Field(
        "conch", min_length=1, description="Prefix of all keys in Redis; gateways that share have the same."
    )
    redis_ttl_s: int = Field(86_400, ge=1, description="Seconds that a vector stays in Redis.")
    batch_database: SecretStr | None = Field(
        None,
        description="Database of files and batches (/v1/files, /v1/batches), with texts and vectors: the path of a "
        "file that only this gateway uses, or the URL of a database that several gateways share: "
        "postgresql+asyncpg://USER:PASSWORD@HOST/NAME. Unset, there are no batches, and nothing is stored. Needs "
        "conch[database].",
    )
    batch_file_bytes: int = Field(200 * 2**20, ge=1, description="Most bytes of an uploaded file; larger ones get 413.")
    batch_lines: int = Field(50_000, ge=1, description="Most lines of a batch; each may have CONCH_MAX_BODY_BYTES.")
    batch_key_bytes: int = Field(
        4 * 2**30, ge=1, description="Most bytes of all files of a key, including answers; further uploads get 403."
    )
    batch_key_files: int = Field(
        1_000, ge=1, description="Most files of a key, including answers; further uploads get 403."
    )
    batch_key_batches: int = Field(100, ge=1, description="Most unfinished batches of a key; further ones get 403.")
    batch_retention_days: int = Field(
        30, ge=1, description="Days after which files and batches are deleted; a request can set fewer for a file."
    )
    timeout_s: float = Field(
        600.0,
        gt=0,
        description="Seconds a request may take, waiting for Triton included, before it gets 504; fewer where its "
        "headers say that its caller waits less. A request that would wait longer behind its caller's other requests, "
        "by the throughput measured so far, gets 429 at once.",
    )
    readiness_timeout_s: float = Field(
        2.0, gt=0, description="Seconds every model has to answer a readiness probe before /health/ready says 503."
    )
    readiness_busy_timeout_s: float = Field(
        120.0, gt=0, description="The same while requests are in flight, when long texts may keep every instance busy."
    )
    web_models: Path | None = Field(
        None,
        description="Folder written by `conch web`, with models that run in the browser: its files are served at /web, "
        "and the page at / offers the models. Unset, there are none.",
    )
    canary_interval_s: float = Field(
        60.0,
        ge=0,
        description="Seconds between canaries: each embedding model embeds a text whose vector its export knows from "
        "the authors' library, and a metric says how much they agree; 0 for none.",
    )
    canary_repository: Path | None = Field(
        None,
        description="Model repository whose report.json files know those vectors; unset, that of the Triton that "
        "`conch serve` starts, or else there are no canaries.",
    )
    shutdown_grace_s: int = Field(30, ge=0, description="Seconds that requests in flight have to finish on shutdown.")
    access_log: bool = Field(default=False, description="Log a JSON object for each request.")
    otlp_endpoint: Annotated[str, AfterValidator(_collector)] | None = Field(
        None,
        description="OpenTelemetry collector that gets spans over gRPC, for example http://127.0.0.1:4317; "
        "unset, none are made.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe message that is logged."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic gives its own sources
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return arguments and the environment, in that order."""
        return init_settings, _Environment(settings_cls)

    @model_validator(mode="after")
    def _a_certificate_for_the_key(self) -> GatewaySettings:
        if self.tls_key is not None and self.tls_certificate is None:
            msg = "CONCH_TLS_KEY is set without a certificate; set CONCH_TLS_CERTIFICATE too"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _one_request_fits(self) -> GatewaySettings:
        if self.max_in_flight_texts < self.max_inputs:
            msg = (
                f"CONCH_MAX_IN_FLIGHT_TEXTS ({self.max_in_flight_texts}) is below CONCH_MAX_INPUTS "
                f"({self.max_inputs}), so the largest request could never be admitted; raise the one or lower the other"
            )
            raise ValueError(msg)
        return self
