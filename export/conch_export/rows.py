"""Texts as rows of token ids, the way clients will send them, for calibration and verification."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from conch_export.checkpoint import Checkpoint
from conch_export.description import Description, Task
from conch_export.graphs.layout import row_lengths
from conch_export.texts import docstrings, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from conch_export.colbert import Interaction


@dataclass(frozen=True)
class Row:
    """One text, or a pair for a cross-encoder.

    Attributes:
        ids: token ids, special tokens included.
        types: segment of every token.
        unseen: tokens at its end that no other attends to.
    """

    ids: list[int]
    types: list[int]
    unseen: int = 0


def verification_rows(description: Description, count: int) -> list[Row]:
    """Rows from the shortest text to the longest, none of which calibration has seen."""
    return _encode(description, spread(docstrings()[1::2], count))


def calibration_rows(description: Description, count: int) -> list[Row]:
    """Rows of real text, and as many tokens again drawn from the whole vocabulary, so that ranges hold for any text."""
    rows = _encode(description, spread(docstrings()[0::2], count))
    vocabulary = _tokenizer(description).get_vocab_size()
    random = np.random.default_rng(0)
    drawn = [
        replace(row, ids=[*row.ids[:1], *_draw(random, vocabulary, len(row.ids) - 2), *row.ids[-1:]]) for row in rows
    ]
    return rows + drawn


def feed(rows: Sequence[Row], *, segments: bool) -> dict[str, NDArray[np.int64 | np.int32]]:
    """The encoder's inputs for rows merged into one run."""
    inputs: dict[str, NDArray[np.int64 | np.int32]] = {
        "input_ids": np.concatenate([np.asarray(row.ids, np.int64) for row in rows]),
        "attention_mask": np.concatenate([_mask(row) for row in rows]),
    }
    if segments:
        inputs["token_type_ids"] = np.concatenate([np.asarray(row.types, np.int64) for row in rows])
    others = [name for name in inputs if name != "input_ids"]
    return inputs | row_lengths([len(row.ids) for row in rows], *others)


def _mask(row: Row) -> NDArray[np.int64]:
    return np.repeat(np.array([1, 2], np.int64), [len(row.ids) - row.unseen, row.unseen])


def _encode(description: Description, texts: list[str]) -> list[Row]:
    tokenizer = _tokenizer(description)
    if description.interaction is not None:
        query, *documents = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        return [_query(description.interaction, query), *(_document(description.interaction, ids) for ids in documents)]
    if description.pair_template:
        pairs = [(text.splitlines()[0], text) for text in texts]
        encodings = tokenizer.encode_batch([_framed(description.pair_template, *pair) for pair in pairs])
    elif description.task is Task.CROSS_ENCODER:
        encodings = tokenizer.encode_batch([(text.splitlines()[0], text) for text in texts])
    else:
        encodings = tokenizer.encode_batch(texts)
    return [Row(encoding.ids, encoding.type_ids) for encoding in encodings]


def _query(rules: Interaction, ids: list[int]) -> Row:
    row = _marked(ids, rules.query_marker, rules.query_length)
    fillers = 0 if rules.filler is None else rules.query_length - len(row)
    row += [rules.filler or 0] * fillers
    return Row(row, [0] * len(row), 0 if rules.filler_seen else fillers)


def _document(rules: Interaction, ids: list[int]) -> Row:
    row = _marked(ids, rules.document_marker, rules.document_length)
    return Row(row, [0] * len(row))


def _marked(ids: list[int], marker: int | None, length: int) -> list[int]:
    """The row with the marker after its first token, cut in the middle so that its last one stays."""
    marks = [] if marker is None else [marker]
    room = length - len(marks)
    kept = ids if len(ids) <= room else [*ids[: room - 1], ids[-1]]
    return [*kept[:1], *marks, *kept[1:]]


def _framed(template: str, query: str, document: str) -> str:
    values = {"query": query, "document": document}
    return re.sub(r"\{(query|document)\}", lambda place: values[place[1]], template)


def _tokenizer(description: Description) -> Tokenizer:
    tokenizer = Tokenizer.from_str(Checkpoint(description.source.folder).tokenizer.decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(description.max_length)
    return tokenizer


def _draw(random: np.random.Generator, vocabulary: int, count: int) -> list[int]:
    drawn: list[int] = random.integers(0, vocabulary, max(0, count)).tolist()
    return drawn
