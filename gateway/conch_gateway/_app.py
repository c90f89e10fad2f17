"""The application, put together."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

from conch_client import AsyncClient, ConchError
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from conch_gateway._admission import Admission
from conch_gateway._metrics import Metrics
from conch_gateway._middleware import BodyLimit, Observer
from conch_gateway._readiness import Readiness
from conch_gateway._route import error_response
from conch_gateway.embedding import Embedder
from conch_gateway.errors import GatewayError
from conch_gateway.reranking import Reranker
from conch_gateway.routers import embeddings, models, operations, rerank
from conch_gateway.settings import GatewaySettings


def create_app(settings: GatewaySettings, client: AsyncClient) -> FastAPI:
    """Return the gateway as an ASGI application; its lifespan opens and closes the client."""
    app = FastAPI(
        title="conch",
        summary="Embeddings and rerankers served from Triton.",
        version=version("conch"),
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan_of(client),
    )
    admission = Admission(settings)
    metrics = Metrics(admission)

    app.include_router(embeddings.router(Embedder(settings, client, admission)))
    app.include_router(rerank.router(Reranker(settings, client, admission)))
    app.include_router(models.router(client))
    app.include_router(operations.router(Readiness(client, settings.readiness_timeout_s), metrics))

    for error in (GatewayError, ConchError, HTTPException):
        app.add_exception_handler(error, error_response)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(Observer, metrics=metrics)
    return app


def app() -> FastAPI:
    """Return the application as the environment configures it, for `uvicorn --factory conch_gateway:app`.

    There, uvicorn's own options set host, port, grace period and access log (`--no-access-log` suits the hot path).
    """
    settings = GatewaySettings()
    return create_app(settings, client_of(settings))


def client_of(settings: GatewaySettings) -> AsyncClient:
    """Return a client for the Triton of the settings."""
    return AsyncClient(settings.triton_url, timeout_s=settings.timeout_s)


def _lifespan_of(client: AsyncClient) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    return lifespan
