"""Types of fields that only text-embeddings-inference has: a sentence and others, and pairs of texts."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from pydantic import PlainValidator, WithJsonSchema

from conch_gateway.api.fields.common import (
    TEXT_SCHEMA,
    TEXTS_SCHEMA,
    TOKEN_IDS_SCHEMA,
    Texts,
    invalid,
    is_text,
    texts_of,
    wrong_type,
)


class Sentences(list[str]):
    """A sentence, and after it those to compare with it."""


class Pairs(NamedTuple):
    """Pairs of texts, and whether they came as a list."""

    pairs: list[tuple[str, str]]
    are_listed: bool


def _sentences(value: Any) -> Sentences:
    source, others = (value.get("source_sentence"), value.get("sentences")) if isinstance(value, dict) else (None, None)
    if not isinstance(source, str) or not isinstance(others, list) or set(map(type, others)) - {str}:
        raise wrong_type('must be an object such as {"source_sentence": "...", "sentences": ["..."]}')
    if not source or not others or not all(others):
        raise invalid("has an empty text; send a source_sentence, and at least one of sentences")
    return Sentences([source, *others])


def _ids(value: object) -> list[list[int]]:
    rows = texts_of(value)
    if is_text(rows):
        raise wrong_type("must be a list of token ids (integers) or a list of such lists")
    return rows


def _texts_or_sentences(value: object) -> Texts | Sentences:
    return _sentences(value) if isinstance(value, dict) else texts_of(value)


def _pairs(value: Any) -> Pairs:
    listed = isinstance(value, list) and set(map(type, value)) == {list}
    rows = value if listed else [value]
    for row in rows:
        if isinstance(row, str) or (isinstance(row, list) and len(row) == 1):
            raise invalid("is a single text, and no model that classifies such is served; send pairs of texts")
        if not isinstance(row, list) or set(map(type, row)) != {str} or len(row) != 2:
            raise wrong_type("must be a pair of strings or a list of such pairs")
    return Pairs([(first, second) for first, second in rows], listed)


_SENTENCES_SCHEMA = {
    "type": "object",
    "properties": {
        "source_sentence": TEXT_SCHEMA,
        "sentences": {"type": "array", "items": TEXT_SCHEMA, "minItems": 1},
    },
    "required": ["source_sentence", "sentences"],
}
_PAIR = {
    "type": "array",
    "prefixItems": [TEXT_SCHEMA, {"type": "string"}],
    "items": {"type": "string"},
    "minItems": 2,
    "maxItems": 2,
}

SentencesField = Annotated[Sentences, PlainValidator(_sentences), WithJsonSchema(_SENTENCES_SCHEMA)]
TextsOrSentencesField = Annotated[
    Texts | Sentences,
    PlainValidator(_texts_or_sentences),
    WithJsonSchema({"anyOf": [*TEXTS_SCHEMA["anyOf"], _SENTENCES_SCHEMA]}),
]
PairsField = Annotated[
    Pairs,
    PlainValidator(_pairs),
    WithJsonSchema({"anyOf": [_PAIR, {"type": "array", "items": _PAIR, "minItems": 1}]}),
]
IdsField = Annotated[
    list[list[int]],
    PlainValidator(_ids),
    WithJsonSchema({"anyOf": [TOKEN_IDS_SCHEMA, {"type": "array", "items": TOKEN_IDS_SCHEMA, "minItems": 1}]}),
]
