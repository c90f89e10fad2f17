"""`/admin`: loads and unloads models, for the operator's own tools; no part of the public API."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from conch_gateway.api.route import Route, Router
from conch_gateway.api.services import Services
from conch_gateway.errors import ForbiddenError, InvalidValueError
from conch_gateway.models.loader import Loader
from conch_gateway.models.local_model import LocalModel
from conch_gateway.models.registry import Models
from conch_gateway.telemetry.request import context_of


class AdminRoute(Route):
    """A route that checks the key itself: a spelling of its path that the guard misses must not open it."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer administrators; raises ForbiddenError for others."""
        if not context_of(scope).key.admin:
            raise ForbiddenError(
                "administration takes an administrator's key; make one: conch keys create NAME --admin"
            )
        await super().handle(scope, receive, send)


def router(services: Services) -> Router:
    """Return the routes of this resource."""
    routes = Router(AdminRoute)
    models = services.models

    @routes.route("/admin/models", include_in_schema=False)
    async def list_models(_: Request) -> Any:
        local = models.loader.models if models.loader is not None else []
        return {"models": [_entry(model) for model in local], **_names(models)}

    @routes.route("/admin/models/{model_id:path}/load", method="POST", include_in_schema=False)
    async def load(request: Request) -> Any:
        return _entry(await _loader_of(models).load(request.path_params["model_id"]))

    @routes.route("/admin/models/{model_id:path}/unload", method="POST", include_in_schema=False)
    async def unload(request: Request) -> Any:
        return _entry(await _loader_of(models).unload(request.path_params["model_id"]))

    @routes.route("/admin/reload", method="POST", include_in_schema=False)
    async def reload(_: Request) -> Any:
        await models.reload()
        return _names(models)

    return routes


def _names(models: Models) -> dict[str, Any]:
    return {"aliases": models.aliases, "upstreams": models.others}


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
