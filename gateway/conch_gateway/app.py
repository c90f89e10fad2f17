"""The application, put together."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

from conch_client import AsyncClient, ConchError
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from conch_gateway.api import MODULES
from conch_gateway.api.services import Services
from conch_gateway.auth.guard import Guard
from conch_gateway.auth.keyring import Keyring
from conch_gateway.backends.kinds import kinds
from conch_gateway.backends.triton import Triton
from conch_gateway.errors import GatewayError
from conch_gateway.inference.service import Inference
from conch_gateway.middleware.body import BodyReader, Drain
from conch_gateway.middleware.failures import error_response
from conch_gateway.middleware.requests import Observer, Presence, Recorder, Target
from conch_gateway.models.loader import Loader
from conch_gateway.models.readiness import Readiness
from conch_gateway.models.registry import Models
from conch_gateway.models.triton_control import TritonControl
from conch_gateway.scheduling.admission import Admission
from conch_gateway.settings import GatewaySettings
from conch_gateway.telemetry.access_log import log_access
from conch_gateway.telemetry.metrics import Metrics

_DESCRIBING_TIMEOUT_S = 30.0  # for what Triton says of its models, which takes milliseconds
_CORS: dict[str, Any] = {"allow_methods": ["GET", "POST"], "allow_headers": ["*"], "expose_headers": ["*"]}


def create_app(settings: GatewaySettings, client: AsyncClient) -> FastAPI:
    """Return the gateway as an ASGI application; its lifespan opens and closes the client."""
    triton = Triton(settings, client)
    loader = (
        None
        if settings.triton_admin_key is None
        else Loader(
            TritonControl(settings.triton_url, settings.triton_admin_key), client, triton.probe, settings.timeout_s
        )
    )
    served = Models(settings, triton, loader, kinds())
    app = FastAPI(
        title="conch",
        summary="Embeddings and rerankers served from Triton.",
        version=version("conch"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lambda _: served.served(),
    )
    admission = Admission(
        triton.shared_backlog,
        max_requests=settings.max_in_flight_requests,
        max_texts=settings.max_in_flight_texts,
        max_tokens=settings.max_in_flight_tokens,
    )
    metrics = Metrics(admission)
    inference, readiness = Inference(settings, served, admission), Readiness(settings, triton, served, admission)
    services = Services(settings, inference, served, readiness, metrics)

    routers = [import_module(f"conch_gateway.api.{name}").router(services) for name in MODULES]
    for router in routers:
        app.include_router(router)
    app.state.routes = [route for router in routers for route in router.routes]

    for error in (GatewayError, ConchError, HTTPException):
        app.add_exception_handler(error, error_response)
    app.state.keyring = Keyring(settings)
    app.add_middleware(Presence, timeout_s=settings.timeout_s)
    app.add_middleware(BodyReader, max_bytes=settings.max_body_bytes)
    app.add_middleware(
        Guard,
        keyring=app.state.keyring,
        admission=admission,
        backlog=lambda: None if settings.cache_mb or served.others else triton.shared_backlog,
    )
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=_listed(settings.cors_origins), **_CORS)
    recorders: list[Recorder] = [metrics.record, *([log_access] if settings.access_log else [])]
    app.add_middleware(Observer, recorders=recorders)
    app.add_middleware(Drain)
    if settings.otlp_endpoint is not None:
        from conch_gateway.telemetry.tracing import (  # noqa: PLC0415 - imports what few need
            Tracing,
            describe_span,
            exporting_provider,
        )

        recorders.append(describe_span)
        app.state.spans = exporting_provider(settings.otlp_endpoint)
        app.add_middleware(Tracing, provider=app.state.spans)
    app.add_middleware(Target)
    return app


def app() -> FastAPI:
    """Return the application as the environment configures it, for `uvicorn --factory conch_gateway:app`.

    There, uvicorn's own options set host, port, grace period and access log (`--no-access-log` suits the hot path).
    """
    settings = GatewaySettings()
    return create_app(settings, client_of(settings))


def client_of(settings: GatewaySettings) -> AsyncClient:
    """Return a client for the Triton of the settings; requests for computing say their own time."""
    return AsyncClient(settings.triton_url, timeout_s=min(settings.timeout_s, _DESCRIBING_TIMEOUT_S))


def _listed(origins: str) -> list[str]:
    return [origin.strip() for origin in origins.split(",")]
