"""Liveness, readiness and metrics, for operators and their tools."""

from __future__ import annotations

from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway.api.route import Router, json_response
from conch_gateway.api.services import Services
from conch_gateway.errors import ForbiddenError
from conch_gateway.telemetry.request import context_of


class Health(BaseModel):
    """`status` in a word; for readiness also each model and what is wrong."""

    status: str
    models: dict[str, bool] | None = None
    reasons: list[str] | None = None


def router(services: Services) -> Router:
    """Return the routes of this resource."""
    routes = Router(tag="operations")

    @routes.route("/health/live", summary="Is the gateway running", responses={200: {"model": Health}})
    async def live(_: Request) -> Any:
        return {"status": "live"}

    @routes.route(
        "/health/ready",
        summary="Would requests be answered",
        responses={200: {"model": Health}, 503: {"model": Health}},
    )
    async def ready(request: Request) -> Response:
        verdict = await services.readiness.verdict()
        status, word = (200, "ready") if verdict.ready else (503, "unavailable")
        return json_response({"status": word, **verdict.shown_to(context_of(request).key)}, status=status)

    @routes.route("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def scrape(request: Request) -> Response:
        key = context_of(request).key
        if key.models is not None:
            msg = f"key {key.name!r} is for some models, and metrics tell of all; bring one made without --model"
            raise ForbiddenError(msg)
        return Response(services.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return routes
