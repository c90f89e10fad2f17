"""Types of request fields that several dialects share.

Lists of texts and token ids are checked by type sets and `min`/`max` instead of pydantic's unions: those try every
branch for every item, and report all that failed.
"""

from collections.abc import Sequence
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from conch_gateway.settings import Truncate

Texts = list[str] | list[list[int]]
_LARGEST_ID = 2**31 - 1


def _wrong_type(message: str) -> PydanticCustomError:
    return PydanticCustomError("wrong_type", "{reason}", {"reason": message})


def _invalid(message: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_value", "{reason}", {"reason": message})


def _texts(value: object) -> Texts:
    """Turn string | string[] | int[] | int[][] into a list of texts or of token-id rows, none of them empty."""
    rows = _rows(value)
    if not rows:
        raise _invalid("is empty; send at least one text")
    for index, row in enumerate(rows):
        if not row:
            raise _invalid(f"item {index} is empty; leave it out or send some text")
    if isinstance(rows[0], list):
        for index, row in enumerate(rows):
            _check_token_ids(index, row)
    return rows


def _rows(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise _wrong_type("must be a string, a list of strings, a list of token ids, or a list of lists of token ids")
    kinds = set(map(type, value))
    if kinds == {int}:
        return [value]
    if kinds in ({str}, {list}, set()):
        return value
    raise _wrong_type("must hold only strings, only token ids (integers), or only lists of token ids")


def _check_token_ids(index: int, row: Sequence[Any]) -> None:
    # type() and not isinstance(): true and false are ints to Python, but not to JSON.
    if set(map(type, row)) != {int}:
        raise _wrong_type(f"item {index} must hold only token ids (integers)")
    if min(row) < 0 or max(row) > _LARGEST_ID:
        raise _invalid(f"item {index} holds token ids outside 0..{_LARGEST_ID}")


def _documents(value: object) -> list[str]:
    if not isinstance(value, list):
        raise _wrong_type('must be a list of strings or of objects such as {"text": "..."}')
    if not value:
        raise _invalid("is empty; send at least one document")
    if set(map(type, value)) == {str}:
        return value
    return [_document(index, item) for index, item in enumerate(value)]


def _document(index: int, item: object) -> str:
    text = item.get("text") if isinstance(item, dict) else item
    if not isinstance(text, str):
        raise _wrong_type(f'item {index} must be a string or an object with a string "text"')
    return text


def _truncation(value: object) -> bool | Truncate:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise _wrong_type("must be none, start, end, true or false")
    for known in get_args(Truncate):
        if value.lower() == known:
            return known  # type: ignore[no-any-return]
    raise _invalid("must be none, start, end, true or false")


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


_TOKEN_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": _LARGEST_ID}, "minItems": 1}
_TEXT = {"type": "string", "minLength": 1}

TextsField = Annotated[
    Texts,
    PlainValidator(_texts),
    WithJsonSchema(
        {
            "anyOf": [
                _TEXT,
                {"type": "array", "items": _TEXT, "minItems": 1},
                _TOKEN_IDS,
                {"type": "array", "items": _TOKEN_IDS, "minItems": 1},
            ]
        }
    ),
]
DocumentsField = Annotated[
    list[str],
    PlainValidator(_documents),
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "anyOf": [
                    {"type": "string"},
                    {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
                ]
            },
        }
    ),
]
Name = Annotated[str, Field(max_length=256)]
TruncateField = Annotated[Truncate, BeforeValidator(_lower)]
TruncationField = Annotated[
    bool | Truncate,
    PlainValidator(_truncation),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": list(get_args(Truncate))}]}),
]
