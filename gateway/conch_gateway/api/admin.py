"""`/admin`: what the operator's own tools ask for, no part of the public API; the guard lets in administrators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway.api.route import Route, json_response
from conch_gateway.errors import ForbiddenError, InvalidValueError
from conch_gateway.models.loader import Loader
from conch_gateway.models.local_model import LocalModel
from conch_gateway.models.registry import Models
from conch_gateway.telemetry.request import context_of


class AdminRoute(Route):
    """A route that looks at the key itself, so that no spelling of a path that the guard does not know opens it."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Return the endpoint for administrators."""

        async def administrate(request: Request) -> Response:
            if not context_of(request).key.admin:
                msg = "administration takes an administrator's key"
                raise ForbiddenError(msg)
            response: Response = await self.endpoint(request)
            return response

        return administrate


def router(models: Models) -> APIRouter:
    """Return the routes of this resource."""
    routes = APIRouter(route_class=AdminRoute, prefix="/admin", include_in_schema=False)

    @routes.get("/models")
    async def list_models(_: Request) -> Response:
        local = models.loader.models if models.loader is not None else []
        return json_response(
            {
                "models": [_entry(model) for model in local],
                "aliases": models.aliases,
                "upstreams": models.others,
            }
        )

    @routes.post("/models/{model_id:path}/load")
    async def load(request: Request) -> Response:
        return json_response(_entry(await _loader_of(models).load(request.path_params["model_id"])))

    @routes.post("/models/{model_id:path}/unload")
    async def unload(request: Request) -> Response:
        return json_response(_entry(await _loader_of(models).unload(request.path_params["model_id"])))

    @routes.post("/reload")
    async def reload(_: Request) -> Response:
        await models.reload()
        return json_response({"aliases": models.aliases, "upstreams": models.others})

    return routes


def _loader_of(models: Models) -> Loader:
    if models.loader is None:
        msg = "Triton has loaded all models and lets none be changed; set CONCH_TRITON_ADMIN_KEY for it and the gateway"
        raise InvalidValueError(msg)
    return models.loader


def _entry(model: LocalModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "state": model.state,
        "load": model.policy,
        "in_use": model.users,
        "reason": model.fault,
    }
