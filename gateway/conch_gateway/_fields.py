"""Types of request fields that several dialects share.

Lists of texts and token ids are checked by type sets and `min`/`max` instead of pydantic's unions: those try every
branch for every item, and report all that failed.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypeIs

from conch_gateway._encodings import OutputType
from conch_gateway.settings import Truncate

Texts = list[str] | list[list[int]]
Truncation = bool | Truncate
Direction = Literal["Left", "Right"]
_LARGEST_ID = 2**31 - 1


def is_text(texts: Texts) -> TypeIs[list[str]]:
    """Tell texts from rows of token ids."""
    return isinstance(texts[0], str)


def truncation(truncate: Truncation | None, direction: Direction = "Right") -> Truncate | None:
    """Return what to cut: a word says it; true cuts the end, or the start if the direction is Left; false nothing."""
    if truncate is None or isinstance(truncate, str):
        return truncate
    if not truncate:
        return "none"
    return "start" if direction == "Left" else "end"


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


def _strings(value: object) -> list[str]:
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


def _documents(value: object) -> list[str]:
    if not isinstance(value, list):
        raise wrong_type('must be a list of strings or of objects such as {"text": "..."}')
    if not value:
        raise invalid("is empty; send at least one document")
    if set(map(type, value)) == {str}:
        return value
    return [_document(index, item) for index, item in enumerate(value)]


def _document(index: int, item: object) -> str:
    text = item.get("text") if isinstance(item, dict) else item
    if not isinstance(text, str):
        raise wrong_type(f'item {index} must be a string or an object with a string "text"')
    return text


def _truncation(value: object) -> bool | Truncate:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise wrong_type("must be none, start, end, true or false")
    for known in get_args(Truncate):
        if value.lower() == known:
            return known  # type: ignore[no-any-return]
    raise invalid("must be none, start, end, true or false")


def _prompt_tokens(value: object) -> Truncate:
    if type(value) is not int:
        raise wrong_type("must be an integer")
    if value != -1:
        raise invalid("must be -1, the model's limit: texts are not cut to other lengths")
    return "end"


def _output_types(value: object) -> tuple[OutputType, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not set(map(type, names)) <= {str}:
        raise wrong_type("must be a name, or a list of names")
    if not names:
        raise invalid("is empty; name at least one, or leave it out for float")
    if not set(names) <= set(get_args(OutputType)):
        raise invalid(f"must be of {', '.join(get_args(OutputType))}")
    return tuple(dict.fromkeys(names))


def _passage(value: object) -> str:
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise wrong_type('must be an object such as {"text": "..."}')
    if not text:
        raise invalid("is empty; send some text")
    return text


TOKEN_IDS_SCHEMA = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": _LARGEST_ID}, "minItems": 1}
TEXT_SCHEMA = {"type": "string", "minLength": 1}
_DOCUMENT_SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
_PASSAGE_SCHEMA = {"type": "object", "properties": {"text": TEXT_SCHEMA}, "required": ["text"]}

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
    PlainValidator(_strings),
    WithJsonSchema({"anyOf": [TEXT_SCHEMA, {"type": "array", "items": TEXT_SCHEMA, "minItems": 1}]}),
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
                    _DOCUMENT_SCHEMA,
                ]
            },
        }
    ),
]
Name = Annotated[str, Field(max_length=256)]
TruncationField = Annotated[
    bool | Truncate,
    PlainValidator(_truncation),
    WithJsonSchema(
        {"anyOf": [{"type": "boolean"}, {"enum": [*get_args(Truncate), *map(str.upper, get_args(Truncate))]}]}
    ),
]
PromptTokensField = Annotated[Truncate, PlainValidator(_prompt_tokens), WithJsonSchema({"const": -1})]
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
PassageField = Annotated[str, PlainValidator(_passage), WithJsonSchema(_PASSAGE_SCHEMA)]
