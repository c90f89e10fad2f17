"""From a request's bytes to a checked model, with every way to be wrong told in one readable message.

Missing fields and wrong JSON types are 422; values of the right type that cannot be served are 400.
"""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from conch_gateway.api.fields.json_size import check_json_size
from conch_gateway.errors import InvalidValueError, MalformedBodyError, RequestError, WrongTypeError

_SHOWN_ERRORS = 3
_LARGE_BODY = 2**18  # bytes


class RequestBody(BaseModel):
    """Base of the request models: JSON types are taken literally, null means left out, unknown fields are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


Body = TypeVar("Body", bound=RequestBody)


async def read_body(request: Request, model: type[Body]) -> Body:
    """Read and check a JSON body, whatever its content type says; for the errors see `parse_body`."""
    raw = await request.body()
    if len(raw) > _LARGE_BODY:  # takes long enough to keep others waiting
        return await asyncio.to_thread(parse_body, raw, model)
    return parse_body(raw, model)


def parse_body(raw: bytes, model: type[Body]) -> Body:
    """Check the bytes of a JSON body.

    Raises:
        MalformedBodyError: not JSON (also: NaN, lone surrogates, raw control characters, nesting deeper than 1,024).
        WrongTypeError: a field is missing or of a wrong JSON type.
        InvalidValueError: a value is out of range.
        BodyTooLargeError: it holds more values than a request needs.
    """
    raw = raw.removeprefix(BOM_UTF8)
    check_json_size(raw)
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        msg = f"the body is not valid JSON: {error if _is_utf8(raw) else 'it is not in UTF-8'}"
        raise MalformedBodyError(msg) from error
    if not isinstance(content, dict):
        msg = "the body must be a JSON object"
        raise WrongTypeError(msg)
    try:
        return model.model_validate(given(content))
    except ValidationError as error:
        raise _explained(error) from error


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out fields that are null: clients send null for what their caller has not set."""
    return {name: value for name, value in fields.items() if value is not None}


def _explained(error: ValidationError) -> RequestError:
    details = error.errors(include_url=False)
    told = [_sentence(detail) for detail in details[:_SHOWN_ERRORS]]
    if len(details) > _SHOWN_ERRORS:
        told.append(f"and {len(details) - _SHOWN_ERRORS} more")
    of_type = any(map(_is_about_type, details))
    kind = WrongTypeError if of_type else InvalidValueError
    return kind("; ".join(told), param=_path(details[0]) or None)


def _sentence(detail: ErrorDetails) -> str:
    path, message = _path(detail), detail["msg"].removeprefix("Value error, ")
    return f"{path}: {message}" if path else message


def _path(detail: ErrorDetails) -> str:
    return ".".join(map(str, detail["loc"]))


def _is_about_type(detail: ErrorDetails) -> bool:
    kind = detail["type"]
    if kind == "literal_error":
        return not isinstance(detail["input"], str)
    return kind == "missing" or kind.endswith("_type")
