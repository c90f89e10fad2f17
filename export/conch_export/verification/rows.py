"""Texts as rows of token ids, the way clients will send them, for calibration and verification."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from conch_contract import FramedPair, Task
from tokenizers import Tokenizer

from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.model.description import Description, GenerativeReranker, interaction_of
from conch_export.onnx.layout import row_lengths
from conch_export.verification.samples import Item, Role
from conch_export.verification.texts import docstrings, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_contract import Interaction
    from numpy.typing import NDArray


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


class Rows:
    """What a client sends for texts: rows by the tokenizer.json that it is served and by the model's parameters.

    Args:
        description: of the model; its source's folder holds the tokenizer.

    Attributes:
        added_tokens: tokens that were added to the vocabulary and may stand in a text, without the one that pads.
    """

    def __init__(self, description: Description) -> None:
        self._description = description
        self._tokenizer = _tokenizer(description, description.max_length)
        self._rules = rules = interaction_of(description)
        if rules is not None:
            self._queries = _tokenizer(description, rules.room(query=True))
            self._documents = _tokenizer(description, rules.room(query=False))
        added = self._tokenizer.get_added_tokens_decoder().values()
        # RoBERTa and its relatives count positions by ids, so that transformers puts a pad in a text elsewhere.
        self.added_tokens = [token.content for token in added if "pad" not in token.content.lower()]

    def __call__(self, item: Item) -> Row:
        """One item's row."""
        description, rules = self._description, self._rules
        if rules is not None:
            return self._marked(rules, item.text, query=item.role is Role.QUERY)
        prompt = description.default_prompt
        if item.role is Role.PAIR and isinstance(description, GenerativeReranker):
            encoding = self._tokenizer.encode(FramedPair.of(description.pair_template, item.query, item.text).text)
        elif item.role is Role.PAIR:
            encoding = self._tokenizer.encode(prompt + item.query, item.text)
        else:
            encoding = self._tokenizer.encode(prompt * (item.role is Role.TEXT) + item.text)
        return Row(encoding.ids, encoding.type_ids)

    def _marked(self, rules: Interaction, text: str, *, query: bool) -> Row:
        tokenizer = self._queries if query else self._documents
        ids = rules.row(tokenizer.encode(text).ids, query=query)
        return Row(ids, [0] * len(ids), rules.masked(ids))


def calibration_rows(description: Description, count: int) -> list[Row]:
    """Rows of real text, and as many tokens again drawn from the whole vocabulary, so that ranges hold for any text."""
    rows_of, texts = Rows(description), spread(docstrings()[0::2], count)
    role = Role.PAIR if description.task is Task.CROSS_ENCODER else Role.TEXT
    roles = [Role.QUERY, *[Role.DOCUMENT] * (count - 1)] if interaction_of(description) else [role] * count
    rows = [rows_of(Item(each, text, text.splitlines()[0])) for each, text in zip(roles, texts, strict=False)]
    vocabulary = _tokenizer(description, description.max_length).get_vocab_size()
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


def _tokenizer(description: Description, max_length: int) -> Tokenizer:
    tokenizer = Tokenizer.from_str(Checkpoint(description.source.folder).tokenizer.decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


def _draw(random: np.random.Generator, vocabulary: int, count: int) -> list[int]:
    drawn: list[int] = random.integers(0, vocabulary, max(0, count)).tolist()
    return drawn
