"""Types of request fields that several dialects share.

Lists of texts and token ids are checked by type sets and `min`/`max` instead of pydantic's unions: those try every
branch for every item, and report all that failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from typing_extensions import TypeIs

from conch_gateway.api.fields.encodings import OutputType
from conch_gateway.settings import Truncate

Texts = list[str] | list[list[int]]
Truncation = bool | Truncate
_LARGEST_ID = 2**31 - 1


def is_text(texts: Texts) -> TypeIs[list[str]]:
    """Tell texts from rows of token ids."""
    return isinstance(texts[0], str)


def truncation(truncate: Truncation | None, direction: str = "Right") -> Truncate | None:
    """Return what to cut: a word says it; true cuts the end, or the start if the direction is Left; false nothing."""
    if truncate is None or isinstance(truncate, str):
        return truncate
    if not truncate:
        return "none"
    return "start" if direction == "Left" else "end"


@dataclass(frozen=True, slots=True)
class Unserved:
    """Marks a field that is refused, because to ignore it would change the answer.

    Attributes:
        reason: what the caller is told, with what to do instead.
        taken: values that change nothing, which are taken.
    """

    reason: str
    taken: tuple[str | bool | int, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check with `_check`."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe what is taken."""
        return {"enum": list(self.taken)} if self.taken else {"type": "null"}

    def _check(self, value: object) -> object:
        if any(value == taken and type(value) is type(taken) for taken in self.taken):
            return value
        raise invalid(self.reason)


def wrong_type(message: str) -> PydanticCustomError:
    """Return the error of a JSON value of another type than the field takes: 422."""
    return PydanticCustomError("wrong_type", "{reason}", {"reason": message})


def invalid(message: str) -> PydanticCustomError:
    """Return the error of a value that cannot be served: 400."""
    return PydanticCustomError("invalid_value", "{reason}", {"reason": message})


def texts_of(value: object) -> Texts:
    """Turn string | string[] | int[] | int[][] into a list of texts or of token-id rows, none of them empty."""
    rows = _rows(value)
    if not rows:
        raise invalid("is empty; send at least one text")
    for index, row in enumerate(rows):
        if not row:
            raise invalid(f"item {index} is empty; leave it out or send some text")
    if isinstance(rows[0], list):
        for index, row in enumerate(rows):
            _check_token_ids(index, row)
    return rows


def strings_of(value: object) -> list[str]:
    """Turn string | string[] into a list of texts, none of them empty."""
    texts = texts_of(value)
    if not is_text(texts):
        raise wrong_type("must be a string or a list of strings")
    return texts


def _rows(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise wrong_type("must be a string, a list of strings, a list of token ids, or a list of lists of token ids")
    kinds = set(map(type, value))
    if kinds == {int}:
        return [value]
    if kinds in ({str}, {list}, set()):
        return value
    raise wrong_type("must hold only strings, only token ids (integers), or only lists of token ids")


def _check_token_ids(index: int, row: Sequence[Any]) -> None:
    # type() and not isinstance(): true and false are ints to Python, but not to JSON.
    if set(map(type, row)) != {int}:
        raise wrong_type(f"item {index} must hold only token ids (integers)")
    if min(row) < 0 or max(row) > _LARGEST_ID:
        raise invalid(f"item {index} holds token ids outside 0..{_LARGEST_ID}")


def _truncation(value: object) -> bool | Truncate:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise wrong_type("must be none, start, end, true or false")
    for known in get_args(Truncate):
        if value.lower() == known:
            return known  # type: ignore[no-any-return]
    try:
        return _FLAG.validate_python(value)
    except ValidationError as error:
        raise invalid("must be none, start, end, true or false") from error


def _output_types(value: object) -> tuple[OutputType, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not set(map(type, names)) <= {str}:
        raise wrong_type("must be a name, or a list of names")
    if not names:
        raise invalid("is empty; name at least one, or leave it out for float")
    if not set(names) <= set(get_args(OutputType)):
        raise invalid(f"must be of {', '.join(get_args(OutputType))}")
    return tuple(dict.fromkeys(names))


TOKEN_IDS_SCHEMA = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": _LARGEST_ID}, "minItems": 1}
TEXT_SCHEMA = {"type": "string", "minLength": 1}

TEXTS_SCHEMA = {
    "anyOf": [
        TEXT_SCHEMA,
        {"type": "array", "items": TEXT_SCHEMA, "minItems": 1},
        TOKEN_IDS_SCHEMA,
        {"type": "array", "items": TOKEN_IDS_SCHEMA, "minItems": 1},
    ]
}
TextsField = Annotated[Texts, PlainValidator(texts_of), WithJsonSchema(TEXTS_SCHEMA)]
StringsField = Annotated[
    list[str],
    PlainValidator(strings_of),
    WithJsonSchema({"anyOf": [TEXT_SCHEMA, {"type": "array", "items": TEXT_SCHEMA, "minItems": 1}]}),
]
# "true", "1", "yes", "on" and their opposites too: servers in Python take them, and so clients of theirs send them.
Flag = Annotated[bool, Field(strict=False)]
_FLAG: TypeAdapter[bool] = TypeAdapter(Flag)
Name = Annotated[str, Field(max_length=256)]
Direction = Annotated[
    Literal["Left", "Right"], BeforeValidator(lambda value: value.title() if isinstance(value, str) else value)
]
TruncationField = Annotated[
    bool | Truncate,
    PlainValidator(_truncation),
    WithJsonSchema(
        {"anyOf": [{"type": "boolean"}, {"enum": [*get_args(Truncate), *map(str.upper, get_args(Truncate))]}]}
    ),
]
OutputTypesField = Annotated[
    tuple[OutputType, ...],
    PlainValidator(_output_types),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(get_args(OutputType))},
                {"type": "array", "items": {"enum": list(get_args(OutputType))}, "minItems": 1},
            ]
        }
    ),
]
