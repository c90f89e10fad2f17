"""What FastAPI cannot see, since endpoints read their bodies themselves: request bodies and errors, described once."""

from typing import Any, Literal

from pydantic import BaseModel

from conch_gateway._body import RequestBody


class ErrorDetail(BaseModel):
    """What went wrong, and how to set it right."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str


class ErrorEnvelope(BaseModel):
    """OpenAI's shape of an error."""

    error: ErrorDetail


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorEnvelope, "description": "The request cannot be served as it is: 400, 404, 413, 422, 429."},
    "5XX": {"model": ErrorEnvelope, "description": "The server failed or cannot answer now: 500, 503, 504."},
}


def takes(model: type[RequestBody]) -> dict[str, Any]:
    """Describe a JSON request body for `openapi_extra`."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


def path_parameter(name: str, description: str) -> dict[str, Any]:
    """Describe a parameter in the path for `openapi_extra`."""
    parameter = {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string"},
    }
    return {"parameters": [parameter]}
