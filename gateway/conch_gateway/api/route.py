"""What all routes share: the class that a dialect derives its own from, JSON answers, and the API's description.

An endpoint takes the request and returns the response: FastAPI solves no dependencies on the hot path. A dialect with
error bodies of its own derives a class from `Route` and gives it to its `APIRouter(route_class=...)`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Literal

import orjson
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway.api.fields.body import RequestBody
from conch_gateway.errors import Problem

Responses = dict[int | str, dict[str, Any]]
ErrorType = Literal[
    "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
]

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


class Route(APIRoute):
    """A route that calls its endpoint directly and answers errors as OpenAI does.

    Attributes:
        error_model: describes what `error_body` returns.
        prefix: paths that begin so, and that no route has, get their 404 in this dialect; the rest get OpenAI's.
    """

    error_model: ClassVar[type[BaseModel]] = ErrorEnvelope
    prefix: ClassVar[str] = ""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Return the endpoint itself: `async (request) -> response`."""
        return self.endpoint

    @classmethod
    def error_body(cls, problem: Problem) -> Mapping[str, Any]:
        """Return the JSON body of an error."""
        kind = "server_error" if problem.status >= 500 else _TYPES.get(problem.status, "invalid_request_error")
        return {"error": {"message": problem.message, "type": kind, "param": problem.param, "code": problem.code}}


def json_response(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Serialise with orjson, numpy arrays included, in one pass."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type="application/json")


def errors(dialect: type[Route] = Route) -> Responses:
    """Describe the errors of a dialect for `responses`."""
    return {
        "4XX": {"model": dialect.error_model, "description": _REFUSED},
        "5XX": {"model": dialect.error_model, "description": _FAILED},
    }


def takes(model: type[RequestBody], example: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a JSON request body for `openapi_extra`; the example is one that the default models can answer."""
    content = {"schema": model.schema_with_nulls(), "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def path_parameter(name: str, description: str, example: str) -> dict[str, Any]:
    """Describe a parameter in the path for `openapi_extra`."""
    schema = {"type": "string", "minLength": 1}
    parameter = {"name": name, "in": "path", "required": True, "description": description, "schema": schema}
    return {"parameters": [{**parameter, "example": example}]}
