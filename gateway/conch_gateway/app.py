"""Assembles the application: services, routes of all dialects, middleware."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from conch_client import AsyncClient, InvalidInputError
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Lifespan

from conch_gateway.api import MODULES
from conch_gateway.api.batches.upload import FORM_BYTES
from conch_gateway.api.route import Route, json_response
from conch_gateway.api.services import Services
from conch_gateway.auth.guard import Guard
from conch_gateway.auth.keyring import Keyring
from conch_gateway.auth.quota import Quotas
from conch_gateway.backends.kinds import kinds
from conch_gateway.backends.triton import Triton
from conch_gateway.batches.computing import Computing
from conch_gateway.errors import SettingError
from conch_gateway.inference.service import Inference
from conch_gateway.inference.shadows import Shadows
from conch_gateway.middleware.body import BodyReader, Drain
from conch_gateway.middleware.requests import Answerer, Observer, Presence, Recorder, Target
from conch_gateway.models.arrival import Arrival
from conch_gateway.models.canary import Canaries
from conch_gateway.models.load_times import LoadTimes
from conch_gateway.models.loader import Loader
from conch_gateway.models.readiness import Readiness
from conch_gateway.models.registry import Models
from conch_gateway.models.triton_control import TritonControl
from conch_gateway.scheduling.admission import Admission, Backlog
from conch_gateway.settings import GatewaySettings
from conch_gateway.telemetry.access_log import log_access
from conch_gateway.telemetry.metrics import Metrics
from conch_gateway.telemetry.replicas import ReplicaMetrics
from conch_gateway.telemetry.shadows import ShadowMetrics

if TYPE_CHECKING:
    from conch_gateway.batches.service import Batches
    from conch_gateway.shared.gateways import Shared

_DESCRIBING_TIMEOUT_S = 30.0  # for what Triton says of its models, which takes milliseconds
_CORS: dict[str, Any] = {"allow_methods": ["GET", "POST", "DELETE"], "allow_headers": ["*"], "expose_headers": ["*"]}


def create_app(settings: GatewaySettings, client: AsyncClient, collectors: Iterable[Collector] = ()) -> Application:
    """Return the gateway as an ASGI application; its lifespan closes the client.

    `collectors` add metrics of the process, such as those of an embedded Triton, to `/metrics`.
    """
    triton = Triton(settings, client)
    models = Models(settings, triton, _loader(settings, client, triton), kinds())
    admission = Admission(
        triton.shared_backlog,
        max_requests=settings.max_in_flight_requests,
        max_texts=settings.max_in_flight_texts,
        max_tokens=settings.max_in_flight_tokens,
    )
    metrics, shared = Metrics(admission, triton.shared_backlog.slots), _shared(settings)
    canaries = Canaries(triton, settings.canary_repository, settings.canary_interval_s)
    for collector in (
        LoadTimes(models.loader),
        ReplicaMetrics(models.replicas),
        canaries,
        *([shared] if shared is not None else []),
        *collectors,
    ):
        metrics.registry.register(collector)
    arrival, vectors = Arrival(client.is_ready), shared.vectors if shared is not None else None
    shadows = Shadows(models, admission, ShadowMetrics(metrics.registry))
    inference = Inference(settings, models, arrival, admission, vectors, answered=shadows.consider)
    readiness = Readiness(settings, triton, models, admission)
    keyring, quotas = Keyring(settings), Quotas(shared.buckets if shared is not None else None)
    batches = _batches(settings, inference, keyring, quotas, metrics)
    app = Application(lambda _: _running(models, canaries, shadows, shared, batches))
    services = Services(settings, inference, models, readiness, metrics, batches)
    for name in MODULES:
        app.router.routes += import_module(f"conch_gateway.api.{name}").router(services).routes
    app.state.metrics, app.state.keyring, app.state.batches = metrics, keyring, batches

    def backlog() -> Backlog | None:
        return None if settings.cache_mb or models.others else triton.shared_backlog

    # The layer that is added last is the outermost.
    app.add_middleware(Presence, timeout_s=settings.timeout_s)
    uploads = {} if batches is None else {"/v1/files": settings.batch_file_bytes + FORM_BYTES}
    app.add_middleware(BodyReader, max_bytes=settings.max_body_bytes, larger=uploads)
    app.add_middleware(Guard, keyring=keyring, quotas=quotas, admission=admission, backlog=backlog)
    app.add_middleware(Answerer)
    if settings.cors_origins:
        origins = [origin.strip() for origin in settings.cors_origins.split(",")]
        app.add_middleware(CORSMiddleware, allow_origins=origins, **_CORS)
    _add_observers(app, settings, metrics)
    app.add_middleware(Target)
    return app


class Application(Starlette):
    """The routes of all dialects, which FastAPI describes when the document is asked for. Nothing before imports it."""

    def __init__(self, lifespan: Lifespan[Starlette]) -> None:
        document = Route("/openapi.json", self._document, "GET", {"include_in_schema": False})
        super().__init__(routes=[document], lifespan=lifespan)
        self.router.redirect_slashes = False
        self._described: dict[str, Any] | None = None

    def openapi(self) -> dict[str, Any]:
        """Return the document."""
        from fastapi.openapi.utils import get_openapi  # noqa: PLC0415

        if self._described is None:
            routes = [route.described() for route in cast("list[Route]", self.routes)]
            summary = "Embeddings and rerankers served from Triton."
            self._described = get_openapi(title="conch", version=version("conch"), summary=summary, routes=routes)
        return self._described

    def build_middleware_stack(self) -> ASGIApp:
        """Return the layers without those of Starlette that answer errors: `Answerer` answers all of them."""
        app: ASGIApp = self.router
        for layer, arguments, options in reversed(self.user_middleware):
            app = layer(app, *arguments, **options)
        return app

    async def _document(self, request: Request) -> Response:
        root = request.scope["root_path"]  # the path of another server in front
        # In a thread: making it, and importing what makes it, takes a second.
        document = await asyncio.to_thread(self.openapi)
        return json_response(document | ({"servers": [{"url": root}]} if root else {}))


def app() -> Application:
    """Return the application as the environment configures it, for `uvicorn --factory conch_gateway:app`.

    There, uvicorn's own options set host, port, grace period and access log (`--no-access-log` suits the hot path).
    """
    settings = GatewaySettings()
    return create_app(settings, client_of(settings))


def client_of(settings: GatewaySettings) -> AsyncClient:
    """Return a client for the Triton of the settings; requests for computing say their own time.

    Raises:
        InvalidInputError: `triton_url` is no address.
    """
    try:
        return AsyncClient(settings.triton_url, timeout_s=min(settings.timeout_s, _DESCRIBING_TIMEOUT_S))
    except InvalidInputError as error:
        raise InvalidInputError(f"CONCH_TRITON_URL: {error}") from error


def _shared(settings: GatewaySettings) -> Shared | None:
    """Return the quotas and vectors in Redis, which gateways share, where one is set."""
    if settings.redis_url is None:
        return None
    try:
        from conch_gateway.shared.gateways import Shared  # noqa: PLC0415 - needs what is installed for it only
    except ModuleNotFoundError as error:
        raise SettingError(f"{error}; install what CONCH_REDIS_URL needs: pip install 'conch[redis]'") from error
    return Shared(settings.redis_url, settings)


def _batches(
    settings: GatewaySettings, inference: Inference, keyring: Keyring, quotas: Quotas, metrics: Metrics
) -> Batches | None:
    """Return files and batches, where a database is set."""
    if settings.batch_database is None:
        return None
    try:
        from conch_gateway.batches.service import Batches  # noqa: PLC0415 - needs what is installed for it only
    except ModuleNotFoundError as error:
        msg = f"{error}; install what CONCH_BATCH_DATABASE needs: pip install 'conch[database]'"
        raise SettingError(msg) from error
    endpoints = import_module("conch_gateway.api.batches.endpoints").endpoints(inference)
    batches = Batches(settings.batch_database, settings, Computing(endpoints, keyring.holder, quotas, metrics.count))
    metrics.registry.register(batches)
    return batches


@asynccontextmanager
async def _running(
    models: Models, canaries: Canaries, shadows: Shadows, shared: Shared | None, batches: Batches | None
) -> AsyncIterator[None]:
    async with (
        nullcontext() if shared is None else shared.connected(),
        models.served(),
        canaries.running(),
        shadows.running(),
        nullcontext() if batches is None else batches.running(),
    ):
        yield


def _loader(settings: GatewaySettings, client: AsyncClient, triton: Triton) -> Loader | None:
    """Return what loads and unloads models, where Triton lets the gateway do so."""
    if settings.triton_admin_key is None:
        return None

    def urls() -> list[str]:
        # One that hangs would hold up every change.
        answering = [replica.url for replica in client.replicas if replica.state != "out"]
        return answering or [replica.url for replica in client.replicas]

    control = TritonControl(urls, settings.triton_admin_key)
    return Loader(control, client, triton.probe, settings.timeout_s)


def _add_observers(app: Application, settings: GatewaySettings, metrics: Metrics) -> None:
    recorders: list[Recorder] = [metrics.record, *([log_access] if settings.access_log else [])]
    app.add_middleware(Observer, recorders=recorders)
    app.add_middleware(Drain)
    if settings.otlp_endpoint is not None:
        from conch_gateway.telemetry import tracing  # noqa: PLC0415 - imports much that few need

        recorders.append(tracing.describe_span)
        app.state.spans = tracing.exporting_provider(settings.otlp_endpoint)
        app.add_middleware(tracing.Tracing, provider=app.state.spans)
