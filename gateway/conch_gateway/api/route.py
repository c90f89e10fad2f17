"""The base of all dialects: the class of their routes, and the router that reads, answers and describes.

An endpoint takes a checked body and the request, and returns the content of its answer. FastAPI takes no part in that:
it makes `openapi.json` of what the router says about bodies and answers. A dialect with error bodies of its own derives
a class from `Route`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import orjson
from pydantic import BaseModel
from starlette import routing
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from conch_gateway.api.fields.body import Body, read_body
from conch_gateway.errors import Problem

if TYPE_CHECKING:
    from fastapi.routing import APIRoute

ErrorType = Literal[
    "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
]
Get = TypeVar("Get", bound=Callable[[Request], Awaitable[Any]])
Post = Callable[[Body, Request], Awaitable[Any]]

_TYPES: Mapping[int, ErrorType] = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_REFUSED = "The request cannot be served as it is: 400, 401, 403, 404, 413, 415, 422, 429."
_FAILED = "The server failed or cannot answer now: 500, 502, 503, 504."


class ErrorDetail(BaseModel):
    """What went wrong, and how to set it right."""

    message: str
    type: ErrorType
    param: str | None
    code: str


class ErrorEnvelope(BaseModel):
    """OpenAI's shape of an error."""

    error: ErrorDetail


class Route(routing.Route):
    """A route that answers errors as OpenAI does, and tells FastAPI about itself.

    Args:
        path: its template.
        endpoint: `async (request) -> response`.
        method: the only one that it takes.
        described: what FastAPI's `APIRoute` takes, for `openapi.json`.

    Attributes:
        error_model: describes what `error_body` returns.
        prefix: paths that begin so, and that no route has, get their 404 in this dialect; the rest get OpenAI's.
    """

    error_model: ClassVar[type[BaseModel]] = ErrorEnvelope
    prefix: ClassVar[str] = ""

    def __init__(
        self, path: str, endpoint: Callable[[Request], Awaitable[Response]], method: str, described: Mapping[str, Any]
    ) -> None:
        super().__init__(path, endpoint, methods=[method])
        self._described = {"methods": [method], **described}

    def matches(self, scope: Scope) -> tuple[routing.Match, Scope]:
        """Return how well a request matches, and what it gets: this route too, for metrics and for errors."""
        match, found = super().matches(scope)
        return match, {**found, "route": self} if found else found

    def described(self) -> APIRoute:
        """Return FastAPI's description, which takes far longer to make than the route itself."""
        from fastapi.routing import APIRoute  # noqa: PLC0415 - for nothing else

        return APIRoute(self.path, self.endpoint, **self._described)

    @classmethod
    def error_body(cls, problem: Problem) -> Mapping[str, Any]:
        """Return the JSON body of an error."""
        kind = "server_error" if problem.status >= 500 else _TYPES.get(problem.status, "invalid_request_error")
        return {"error": {"message": problem.message, "type": kind, "param": problem.param, "code": problem.code}}


class Router:
    """The routes of one module, whose answers and whose dialect's errors are described in `openapi.json`."""

    def __init__(self, dialect: type[Route] = Route, *, tag: str | None = None) -> None:
        self.routes: list[Route] = []
        self._dialect = dialect
        self._tags = [] if tag is None else [tag]

    def route(
        self, path: str, *, method: str = "GET", dialect: type[Route] | None = None, **described: Any
    ) -> Callable[[Get], Get]:
        """Register `async (request) -> content`; `described` is what FastAPI's `APIRoute` takes."""

        def register(endpoint: Get) -> Get:
            async def answer(request: Request) -> Response:
                return json_response(await endpoint(request))

            about = {"name": endpoint.__name__, "tags": self._tags, **described}
            self.routes.append((dialect or self._dialect)(path, answer, method, about))
            return endpoint

        return register

    def on_get(self, path: str, gives: Any, summary: str, **options: Any) -> Callable[[Get], Get]:
        """Register `async (request) -> content`; for the arguments see `on_post`."""
        return self.on("GET", path, gives, summary, **options)

    def on(self, method: str, path: str, gives: Any, summary: str, **options: Any) -> Callable[[Get], Get]:
        """Register `async (request) -> content` for a method whose body is read by nobody, or by the endpoint."""
        return self.route(path, method=method, **_described(gives, summary, self._dialect) | options)

    def on_post(
        self,
        path: str,
        takes: type[Body],
        gives: Any,
        summary: str,
        *,
        dialect: type[Route] | None = None,
        parameters: tuple[dict[str, Any], ...] = (),
        **options: Any,
    ) -> Callable[[Post[Body]], Post[Body]]:
        """Register `async (body, request) -> content`.

        Args:
            path: of the route.
            takes: model of the body, with an `example` that the default models can answer.
            gives: model of the content, or the media type of what is not JSON.
            summary: what the endpoint does, in a few words.
            dialect: where it is not the router's.
            parameters: of the path, each as `path_parameter` describes it.
            options: FastAPI's.
        """
        dialect = dialect or self._dialect
        content = {"application/json": {"schema": takes.schema_with_nulls(), "example": takes.example}}
        extra: dict[str, Any] = {"requestBody": {"required": True, "content": content}}
        if parameters:
            extra["parameters"] = list(parameters)
        described = _described(gives, summary, dialect) | {"openapi_extra": extra} | options

        def register(endpoint: Post[Body]) -> Post[Body]:
            @wraps(endpoint)
            async def read_and_compute(request: Request) -> Any:
                return await endpoint(await read_body(request, takes), request)

            self.route(path, method="POST", dialect=dialect, **described)(read_and_compute)
            return endpoint

        return register


def json_response(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Serialise with orjson, numpy arrays included, in one pass; a response stays as it is."""
    if isinstance(content, Response):
        return content
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type="application/json")


def token_usage(tokens: int) -> dict[str, int]:
    """Return OpenAI's account of tokens, which most dialects have taken over."""
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def path_parameter(name: str, description: str, example: str) -> dict[str, Any]:
    """Describe a parameter in the path."""
    schema = {"type": "string", "minLength": 1}
    parameter = {"name": name, "in": "path", "required": True, "description": description, "schema": schema}
    return {**parameter, "example": example}


def _described(gives: Any, summary: str, dialect: type[Route]) -> dict[str, Any]:
    binary = {"content": {gives: {"schema": {"type": "string", "format": "binary"}}}}
    responses = {
        200: binary if isinstance(gives, str) else {"model": gives},
        "4XX": {"model": dialect.error_model, "description": _REFUSED},
        "5XX": {"model": dialect.error_model, "description": _FAILED},
    }
    return {"summary": summary, "responses": responses}
