"""Types of fields that hold texts: strings, token ids, and documents, which may be objects.

Lists are checked by type sets and `min`/`max` instead of pydantic's unions: those try every branch for every item, and
report all that failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from conch_gateway.api.fields.body import invalid, wrong_type
from conch_gateway.jobs import Texts, is_text

Document = str | dict[str, Any]
_LARGEST_ID = 2**31 - 1


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


def ids_of(value: object) -> list[list[int]]:
    """Turn int[] | int[][] into rows of token ids, none of them empty."""
    rows = texts_of(value)
    if is_text(rows):
        raise wrong_type("must be a list of token ids (integers) or a list of such lists")
    return rows


def document_texts(documents: Sequence[Document], fields: Sequence[str] = ("text",)) -> list[str]:
    """Return the text of each document: of an object, the values of those fields that it has, a line for each."""
    return [_text(index, document, fields) for index, document in enumerate(documents)]


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


def _text(index: int, document: Document, fields: Sequence[str]) -> str:
    if isinstance(document, str):
        return document
    values = [document[name] for name in fields if document.get(name) is not None]
    if not values or not all(isinstance(value, str) for value in values):
        names = " or ".join(f'"{name}"' for name in fields)
        raise wrong_type(f"item {index} must be a string or an object with a string {names}")
    return "\n".join(values)


def _documents(value: object) -> list[Document]:
    if not isinstance(value, list):
        raise wrong_type('must be a list of strings or of objects such as {"text": "..."}')
    if not value:
        raise invalid("is empty; send at least one document")
    for index, item in enumerate(value):
        if not isinstance(item, str | dict):
            raise wrong_type(f'item {index} must be a string or an object such as {{"text": "..."}}')
    return value


def _passages(value: object) -> list[str]:
    return document_texts(_documents(value))


def _passage(value: object) -> str:
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise wrong_type('must be an object such as {"text": "..."}')
    if not text:
        raise invalid("is empty; send some text")
    return text


def _input(value: object) -> Texts:
    has_objects = isinstance(value, list) and dict in set(map(type, value))
    return texts_of(_passages(value) if has_objects else value)


def list_of(*kinds: dict[str, Any]) -> dict[str, Any]:
    """Describe a list of at least one item of these kinds."""
    return {"type": "array", "minItems": 1, "items": kinds[0] if len(kinds) == 1 else {"anyOf": list(kinds)}}


def object_with(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Describe an object that must have one property."""
    return {"type": "object", "properties": {name: schema}, "required": [name]}


TEXT = {"type": "string", "minLength": 1}
IDS = list_of({"type": "integer", "minimum": 0, "maximum": _LARGEST_ID})
TEXTS = [TEXT, list_of(TEXT), IDS, list_of(IDS)]
_DOCUMENTS = list_of({"type": "string"}, {"type": "object"})
_PASSAGE = object_with("text", TEXT)
_PASSAGES = list_of({"type": "string"}, object_with("text", {"type": "string"}))

StringsField = Annotated[list[str], PlainValidator(strings_of), WithJsonSchema({"anyOf": [TEXT, list_of(TEXT)]})]
IdsField = Annotated[list[list[int]], PlainValidator(ids_of), WithJsonSchema({"anyOf": [IDS, list_of(IDS)]})]
TextsField = Annotated[Texts, PlainValidator(texts_of), WithJsonSchema({"anyOf": TEXTS})]
InputField = Annotated[Texts, PlainValidator(_input), WithJsonSchema({"anyOf": [*TEXTS, list_of(TEXT, _PASSAGE)]})]
DocumentsField = Annotated[list[Document], PlainValidator(_documents), WithJsonSchema(_DOCUMENTS)]
PassagesField = Annotated[list[str], PlainValidator(_passages), WithJsonSchema(_PASSAGES)]
PassageField = Annotated[str, PlainValidator(_passage), WithJsonSchema(_PASSAGE)]
