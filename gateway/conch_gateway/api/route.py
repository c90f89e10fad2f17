"""The route class of all endpoints, and how a dialect brings its own error bodies.

An endpoint takes the request and returns the response: no dependency solving on the hot path. A dialect with other
error bodies subclasses `Route` and gives its class to its `APIRouter(route_class=...)`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from math import ceil
from typing import Any, ClassVar, Literal

import orjson
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from conch_gateway.errors import Problem, problem_of
from conch_gateway.middleware.body import ACCEPTED_CODINGS
from conch_gateway.telemetry.trace import trace_of

_log = logging.getLogger("conch_gateway")


class ErrorDetail(BaseModel):
    """What went wrong, and how to set it right."""

    message: str
    type: Literal[
        "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
    ]
    param: str | None
    code: str


class ErrorEnvelope(BaseModel):
    """OpenAI's shape of an error."""

    error: ErrorDetail


class Route(APIRoute):
    """A route that calls its endpoint directly and speaks of errors as OpenAI does.

    Attributes:
        error_model: Describes what `error_body` returns.
    """

    error_model: ClassVar[type[BaseModel]] = ErrorEnvelope

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Return the endpoint itself: `async (request) -> response`."""
        return self.endpoint

    @classmethod
    def error_body(cls, problem: Problem) -> Mapping[str, Any]:
        """Return the JSON body of an error, here OpenAI's envelope."""
        error = {"message": problem.message, "type": problem.type, "param": problem.param, "code": problem.code}
        return {"error": error}


def json_response(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Serialise with orjson, numpy arrays included, in one pass."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type="application/json")


async def error_response(request: Request, error: Exception) -> Response:
    """Answer an error in the dialect of the route it happened in; failures of the server leave one line in the log."""
    problem, trace = problem_of(error), trace_of(request)
    trace.error = error
    if problem.status >= 500:
        _log_failure(request, problem, error)
    dialect = _dialect_of(request)
    headers = {} if problem.retry_after_s is None else _retry_headers(problem.retry_after_s)
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    if problem.status == 415:
        headers["accept-encoding"] = ACCEPTED_CODINGS
    if problem.status == 405:
        headers["allow"] = _allowed(request, error)
    return json_response(dialect.error_body(problem), status=problem.status, headers=headers)


def _dialect_of(request: Request) -> Route | type[Route]:
    """Find the route that the request has been given, or would have been had it not been turned away before.

    Where there is none, the beginning of the path says whose dialect it is.
    """
    route = request.scope.get("route")
    if route is None:
        request.scope["route"] = route = next(_routes_at(request), None)
    if isinstance(route, Route):
        return route
    prefixes: Mapping[str, type[Route]] = request.app.state.dialect_of_prefix
    path = request.scope["path"]
    return next((dialect for prefix, dialect in prefixes.items() if path.startswith(prefix)), Route)


def _allowed(request: Request, error: Exception) -> str:
    """Return the methods of all routes at the path; the error knows those of the first, which may be FastAPI's own."""
    first = (getattr(error, "headers", None) or {}).get("Allow", "")
    methods = {method for one in _routes_at(request) for method in one.methods or ()}.union(first.split(", "))
    head = {"HEAD"} if "GET" in methods else set()
    return ", ".join(sorted(methods.union(head) - {""}))


def _routes_at(request: Request) -> Iterator[APIRoute]:
    """All routes of the request's path, whatever method they take."""
    return (one for one in request.app.state.routes if one.matches(request.scope)[0] is not Match.NONE)


def _retry_headers(seconds: float) -> dict[str, str]:
    """Whole seconds, as HTTP has them, and the milliseconds that OpenAI's clients read first."""
    return {"retry-after": str(ceil(seconds)), "retry-after-ms": str(ceil(1e3 * seconds))}


def _log_failure(request: Request, problem: Problem, error: Exception) -> None:
    trace = trace_of(request)
    line = {
        "event": "request_failed",
        "request_id": trace.request_id,
        "method": request.method,
        "path": request.scope["path"],
        "status": problem.status,
        "code": problem.code,
        "model": trace.model,
        "texts": trace.texts,
        "error": f"{type(error).__name__}: {error}",
    }
    # A traceback only for what nobody foresaw: the others say all in their message.
    _log.error(orjson.dumps(line).decode(), exc_info=error if problem.code == "internal_error" else None)
