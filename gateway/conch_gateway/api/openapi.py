"""What FastAPI cannot see, since endpoints read their bodies themselves: request bodies and errors, described once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conch_gateway.api.fields.body import RequestBody
from conch_gateway.api.route import Route

Responses = dict[int | str, dict[str, Any]]

_REFUSED = "The request cannot be served as it is: 400, 401, 403, 404, 413, 415, 422, 429."
_FAILED = "The server failed or cannot answer now: 500, 502, 503, 504."


def errors(dialect: type[Route] = Route) -> Responses:
    """Describe the errors of a dialect for `responses`."""
    return {
        "4XX": {"model": dialect.error_model, "description": _REFUSED},
        "5XX": {"model": dialect.error_model, "description": _FAILED},
    }


def takes(model: type[RequestBody], example: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a JSON request body for `openapi_extra`; the example is one that the default models can answer."""
    content = {"schema": _nullable(model.model_json_schema()), "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """Say that every field that may be left out may be null as well."""
    required = schema.get("required", ())
    properties = {
        name: field if name in required else _or_null(field) for name, field in schema.get("properties", {}).items()
    }
    return {**schema, "properties": properties}


def _or_null(field: dict[str, Any]) -> dict[str, Any]:
    null = {"type": "null"}
    told = {name: value for name, value in field.items() if name in {"default", "description", "title"}}
    kind = {name: value for name, value in field.items() if name not in told}
    kinds = kind["anyOf"] if set(kind) == {"anyOf"} else [kind]
    return {"anyOf": kinds if null in kinds else [*kinds, null], **told} if kind else field


def path_parameter(name: str, description: str, example: str) -> dict[str, Any]:
    """Describe a parameter in the path for `openapi_extra`."""
    parameter = {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string", "minLength": 1},
        "example": example,
    }
    return {"parameters": [parameter]}
