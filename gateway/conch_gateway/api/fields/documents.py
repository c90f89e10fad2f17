"""Types of fields that hold documents: strings, or objects with a `text` or with other fields that are named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from conch_gateway.api.fields.common import TEXT_SCHEMA, TEXTS_SCHEMA, Texts, invalid, texts_of, wrong_type

Document = str | dict[str, Any]
_TEXT = ("text",)


def document_texts(documents: Sequence[Document], fields: Sequence[str] = _TEXT) -> list[str]:
    """Return the text of each document: of an object, the values of those fields that it has, a line for each."""
    return [_text(index, document, fields) for index, document in enumerate(documents)]


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


_PASSAGE_SCHEMA = {"type": "object", "properties": {"text": TEXT_SCHEMA}, "required": ["text"]}
_TEXT_OBJECT_SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def _list_of(*kinds: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": {"anyOf": list(kinds)}}


DocumentsField = Annotated[
    list[Document], PlainValidator(_documents), WithJsonSchema(_list_of({"type": "string"}, {"type": "object"}))
]
PassagesField = Annotated[
    list[str], PlainValidator(_passages), WithJsonSchema(_list_of({"type": "string"}, _TEXT_OBJECT_SCHEMA))
]
PassageField = Annotated[str, PlainValidator(_passage), WithJsonSchema(_PASSAGE_SCHEMA)]
InputField = Annotated[
    Texts,
    PlainValidator(_input),
    WithJsonSchema({"anyOf": [*TEXTS_SCHEMA["anyOf"], _list_of(TEXT_SCHEMA, _PASSAGE_SCHEMA)]}),
]
