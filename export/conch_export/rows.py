"""Texts as rows of token ids, the way clients will send them, for calibration and verification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from conch_export.description import Description, Task
from conch_export.graphs.ragged import ROW_LENGTHS
from conch_export.texts import docstrings, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Row:
    """One text, or a pair for a cross-encoder.

    Attributes:
        ids: token ids, special tokens included.
        types: segment of every token.
    """

    ids: list[int]
    types: list[int]


def verification_rows(description: Description, count: int) -> list[Row]:
    """Rows from the shortest text to the longest, none of which calibration has seen."""
    return _encode(description, spread(docstrings()[1::2], count))


def calibration_rows(description: Description, count: int) -> list[Row]:
    """Rows of real text, and as many tokens again drawn from the whole vocabulary, so that ranges hold for any text."""
    rows = _encode(description, spread(docstrings()[0::2], count))
    vocabulary = _tokenizer(description).get_vocab_size()
    random = np.random.default_rng(0)
    drawn = [
        Row([*row.ids[:1], *_draw(random, vocabulary, len(row.ids) - 2), *row.ids[-1:]], row.types) for row in rows
    ]
    return rows + drawn


def feed(rows: Sequence[Row], *, segments: bool) -> dict[str, NDArray[np.int64 | np.int32]]:
    """The encoder's inputs for rows merged into one run."""
    ids = np.concatenate([np.asarray(row.ids, np.int64) for row in rows])
    inputs: dict[str, NDArray[np.int64 | np.int32]] = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        ROW_LENGTHS: np.array([len(row.ids) for row in rows], np.int32),
    }
    if segments:
        inputs["token_type_ids"] = np.concatenate([np.asarray(row.types, np.int64) for row in rows])
    return inputs


def _encode(description: Description, texts: list[str]) -> list[Row]:
    tokenizer = _tokenizer(description)
    if description.task is Task.CROSS_ENCODER:
        encodings = tokenizer.encode_batch([(text.splitlines()[0], text) for text in texts])
    else:
        encodings = tokenizer.encode_batch(texts)
    return [Row(encoding.ids, encoding.type_ids) for encoding in encodings]


def _tokenizer(description: Description) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(description.source.folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(description.max_length)
    return tokenizer


def _draw(random: np.random.Generator, vocabulary: int, count: int) -> list[int]:
    drawn: list[int] = random.integers(0, vocabulary, max(0, count)).tolist()
    return drawn
