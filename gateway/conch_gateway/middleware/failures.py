"""The answer to an error, whichever layer or route raised it: the dialect of the request's path makes its body."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from math import ceil

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from conch_gateway.api.route import Route, json_response
from conch_gateway.errors import Problem, problem_of
from conch_gateway.middleware.body import ACCEPTED_CODINGS
from conch_gateway.telemetry.request import context_of, has_hung_up, note_error, path_of, usage_of

_log = logging.getLogger("conch_gateway")
_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"www-authenticate": "Bearer"},
    415: {"accept-encoding": ACCEPTED_CODINGS},
}


def error_response(request: Request, error: Exception) -> Response:
    """Answer an error in the dialect of the request's path; a failure of the server leaves one line in the log.

    A request whose caller has disconnected counts as that, whatever was raised while its work was cancelled.
    """
    if has_hung_up(request.scope):
        error = ClientDisconnect()
    problem = problem_of(error)
    note_error(request.scope, error)
    if problem.status >= 500:
        _log_failure(request, problem, error)
    dialect = _dialect_of(request)
    headers = {**_HEADERS.get(problem.status, {})}
    if problem.retry_after_s is not None:  # HTTP knows whole seconds; OpenAI's clients read the milliseconds first
        headers |= {"retry-after": str(ceil(problem.retry_after_s))}
        headers |= {"retry-after-ms": str(ceil(1e3 * problem.retry_after_s))}
    if problem.status == 405:
        headers["allow"] = _allowed(request)
    return json_response(dialect.error_body(problem), status=problem.status, headers=headers)


def _dialect_of(request: Request) -> type[Route]:
    """Return the dialect of the route at the path or, where there is none, of the longest matching prefix.

    A request that was refused before it was routed gets its route here, for the error's body and for the metrics.
    """
    route: Route | None = request.scope.get("route")
    if route is None:
        request.scope["route"] = route = next(_routes_at(request), None)
    if route is not None:
        return type(route)
    dialects: set[type[Route]] = {type(one) for one in request.app.routes}
    below = [one for one in dialects if one.prefix and path_of(request.scope).startswith(one.prefix)]
    return max(below, key=lambda dialect: len(dialect.prefix), default=Route)


def _allowed(request: Request) -> str:
    """Return the methods of all routes at the path: the error knows those of the first only."""
    return ", ".join(sorted({method for one in _routes_at(request) for method in one.methods or ()}))


def _routes_at(request: Request) -> Iterator[Route]:
    """Yield the routes of the request's path, whatever method they take."""
    return (one for one in request.app.routes if one.matches(request.scope)[0] is not Match.NONE)


def _log_failure(request: Request, problem: Problem, error: Exception) -> None:
    usage = usage_of(request.scope)
    line = {
        "event": "request_failed",
        "request_id": context_of(request).request_id,
        "method": request.method,
        "path": request.scope["path"],
        "status": problem.status,
        "code": problem.code,
        "model": None if usage is None else usage.model,
        "texts": 0 if usage is None else usage.texts,
        "error": f"{type(error).__name__}: {error}",
    }
    # Only an unforeseen error needs its traceback: the others say everything in their message.
    _log.error(orjson.dumps(line).decode(), exc_info=error if problem.code == "internal_error" else None)
