"""From a request's bytes to a checked model; everything that is wrong goes into one readable message.

Missing fields and wrong JSON types are 422; values of the right type that cannot be served are 400.
"""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from starlette.requests import Request
from typing_extensions import Self

from conch_gateway.api.fields.json_size import check_json_size
from conch_gateway.errors import InvalidValueError, MalformedBodyError, RequestError, WrongTypeError
from conch_gateway.validation import place_of, sentence

_SHOWN_ERRORS = 3
_LARGE_BODY = 2**18  # bytes
_NULL = {"type": "null"}
Example = Mapping[str, Any]


class RequestBody(BaseModel):
    """Base of the request models: JSON types are taken literally, null means left out, unknown fields are ignored.

    Attributes:
        example: for `openapi.json`; one that the default models can answer.
        synonyms: pairs of names for one field, of which a request sends one at most.
        needed: pairs of names for one field, of which a request sends exactly one.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    example: ClassVar[Example] = {}
    synonyms: ClassVar[tuple[tuple[str, str], ...]] = ()
    needed: ClassVar[tuple[tuple[str, str], ...]] = ()

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        for one, other in (*self.synonyms, *self.needed):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise invalid(f"send {one} or {other}, not both")
        for one, other in self.needed:
            if getattr(self, one) is None and getattr(self, other) is None:
                raise PydanticCustomError("missing", f"{one}: Field required")
        return self

    @classmethod
    @cache
    def schema_with_nulls(cls) -> dict[str, Any]:
        """Return the JSON schema, in which every field that may be left out may be null as well."""
        schema = cls.model_json_schema()
        for name, field in schema.get("properties", {}).items():
            if name not in schema.get("required", ()):
                schema["properties"][name] = _or_null(field)
        return schema


Body = TypeVar("Body", bound=RequestBody)


def optional(description: str, **constraints: Any) -> Any:
    """Return the default of a field that may be left out, with its description."""
    return Field(None, description=description, **constraints)


def wrong_type(message: str) -> PydanticCustomError:
    """Return the error of a JSON value of another type than the field takes: 422."""
    return PydanticCustomError("wrong_type", "{reason}", {"reason": message})


def invalid(message: str) -> PydanticCustomError:
    """Return the error of a value that cannot be served: 400."""
    return PydanticCustomError("invalid_value", "{reason}", {"reason": message})


async def read_body(request: Request, model: type[Body]) -> Body:
    """Read and check a JSON body, whatever its content type says; for the errors see `parse_body`."""
    return await parsed(await request.body(), parse_body, model)


async def parsed(raw: bytes, parse: Callable[[bytes, type[Body]], Body], model: type[Body]) -> Body:
    """Parse some bytes; in a thread if that takes long enough to keep others waiting."""
    if len(raw) > _LARGE_BODY:
        return await asyncio.to_thread(parse, raw, model)
    return parse(raw, model)


def parse_body(raw: bytes, model: type[Body]) -> Body:
    """Check the bytes of a JSON body.

    Raises:
        MalformedBodyError: not JSON (also: NaN, lone surrogates, raw control characters, nesting deeper than 1,024).
        WrongTypeError: a field is missing or of a wrong JSON type.
        InvalidValueError: a value is out of range.
        BodyTooLargeError: it holds more values than a request needs.
    """
    return checked(parse_json(raw), model)


def parse_json(raw: bytes) -> Any:
    """Parse JSON; raises MalformedBodyError and BodyTooLargeError as `parse_body` does."""
    raw = raw.removeprefix(BOM_UTF8)
    check_json_size(raw)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        reason = error if _is_utf8(raw) else "it is not in UTF-8"
        raise MalformedBodyError(f"the body is not valid JSON: {reason}") from error


def checked(content: Any, model: type[Body]) -> Body:
    """Check parsed JSON; raises WrongTypeError and InvalidValueError as `parse_body` does."""
    if not isinstance(content, dict):
        raise WrongTypeError("the body must be a JSON object")
    try:
        return model.model_validate(without_nulls(content))
    except ValidationError as error:
        raise explained(error) from error


def without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out fields that are null: clients send null for what their caller has not set."""
    return {name: value for name, value in fields.items() if value is not None}


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def explained(error: ValidationError) -> RequestError:
    """Return our error for what a model refuses."""
    details = error.errors(include_url=False)
    shown = [sentence(detail) for detail in details[:_SHOWN_ERRORS]]
    if len(details) > _SHOWN_ERRORS:
        shown.append(f"and {len(details) - _SHOWN_ERRORS} more")
    kind = WrongTypeError if any(map(_is_about_type, details)) else InvalidValueError
    return kind("; ".join(shown), param=place_of(details[0]) or None)


def _is_about_type(detail: ErrorDetails) -> bool:
    kind = detail["type"]
    if kind == "literal_error":
        return not isinstance(detail["input"], str)
    return kind == "missing" or kind.endswith("_type")


def _or_null(field: dict[str, Any]) -> dict[str, Any]:
    notes = {name: value for name, value in field.items() if name in {"default", "description", "title"}}
    kind = {name: value for name, value in field.items() if name not in notes}
    kinds = kind["anyOf"] if set(kind) == {"anyOf"} else [kind]
    return {"anyOf": kinds if _NULL in kinds else [*kinds, _NULL], **notes} if kind else field
