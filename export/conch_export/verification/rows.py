"""Texts as rows of token ids, by the rules that clients go by, for calibration and verification."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from conch_contract import QUERY_PROMPT, FramedPair, Task, prompt_length
from tokenizers import Tokenizer

from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.model.description import EmbeddingModel, GenerativeReranker, SparseModel, StaticModel, interaction_of
from conch_export.onnx.engine import Row
from conch_export.verification.samples import Item, Role
from conch_export.verification.texts import docstrings, spread

if TYPE_CHECKING:
    from tokenizers import Encoding

    from conch_export.model.description import Description
    from conch_export.model.public_models import PublicModel
    from conch_export.verification.samples import Sample


class Rows:
    """Rows as clients send them: by the served tokenizer.json and the model's parameters.

    Args:
        description: of the model; its source's folder holds the tokenizer.

    Attributes:
        added_tokens: tokens that were added to the vocabulary and may stand in a text, without the one that pads.
        vocabulary: number of tokens that the tokenizer knows.
    """

    def __init__(self, description: Description) -> None:
        self._description = description
        self._rules = interaction_of(description)
        self._tokenizer = _tokenizer(description)
        added = self._tokenizer.get_added_tokens_decoder().values()
        # RoBERTa and its relatives count positions by ids, so that transformers puts a pad in a text elsewhere.
        self.added_tokens = [token.content for token in added if "pad" not in token.content.lower()]
        self.vocabulary = self._tokenizer.get_vocab_size()

    def __call__(self, item: Item) -> Row:
        """One item's row."""
        description, is_query = self._description, item.role is Role.QUERY
        if self._rules is not None:
            ids = self._encode(item.text, length=self._rules.room(query=is_query)).ids
            ids = self._rules.row(ids, query=is_query)
            return Row(ids, [0] * len(ids), self._rules.masked(ids))
        if isinstance(description, SparseModel) and description.looks_up_queries:
            return self._of_a_side(description, item)
        prompt = description.default_prompt if item.role in (Role.TEXT, Role.PAIR) else ""
        prompt = prompt if item.prompt_name is None else description.prompts[item.prompt_name]
        if isinstance(description, StaticModel):
            encoding = self._encode((prompt + item.text)[: description.max_characters])
        elif item.role is not Role.PAIR:
            encoding = self._encode(prompt + item.text)
            return Row(encoding.ids, encoding.type_ids, prompt=self._prompt_length(prompt))
        elif isinstance(description, GenerativeReranker):
            template, instruction = description.pair_template, description.default_instruction
            pair = FramedPair.of(template, item.query, item.text, instruction)
            parts = [self._encode(pair.text[slice(*piece)]) for piece in pair.pieces]
            return Row([number for part in parts for number in part.ids], [0] * sum(len(part.ids) for part in parts))
        else:
            encoding = self._encode(prompt + item.query, item.text)
        return Row(encoding.ids, encoding.type_ids)

    def count(self, item: Item) -> int:
        """How many tokens an item has."""
        return len(self(item).ids)

    def is_sent(self, item: Item) -> bool:
        """Whether clients send it: they refuse texts without tokens, or without any beside a prompt not pooled."""
        row = self(item)
        return len(row.ids) > row.prompt

    def items(self, sample: Sample, model: PublicModel) -> list[Item]:
        """The items of a public model that clients send."""
        return list(filter(self.is_sent, sample.items(self._description, model, self.count)))

    def _of_a_side(self, description: SparseModel, item: Item) -> Row:
        """A query without special tokens, or a document."""
        side = {Role.QUERY: "query", Role.DOCUMENT: "document"}.get(item.role, description.default_prompt_name)
        text = description.prompts.get(side, "") + item.text
        encoding = self._encode(text, special=side != QUERY_PROMPT)
        return Row(encoding.ids, encoding.type_ids)

    def _prompt_length(self, prompt: str) -> int:
        """Tokens of a prompt that are not pooled."""
        if not prompt or not isinstance(self._description, EmbeddingModel) or self._description.pools_prompt:
            return 0
        return prompt_length(self._encode(prompt).special_tokens_mask)

    def _encode(self, *texts: str, length: int | None = None, special: bool = True) -> Encoding:
        self._tokenizer.enable_truncation(length or self._description.max_length)
        return self._tokenizer.encode(*texts, add_special_tokens=special)


def thirds(length: int) -> tuple[int, ...]:
    """Ends of chunks that are a third of so many tokens each, or one token where there are fewer than three."""
    return tuple(sorted({max(1, length * part // 3) for part in (1, 2, 3)}))


def _tokenizer(description: Description) -> Tokenizer:
    tokenizer = Tokenizer.from_str(Checkpoint.of(description.source).tokenizer.decode())
    tokenizer.no_padding()
    return tokenizer


def calibration_rows(description: Description, count: int) -> list[Row]:
    """Rows of real text, and as many tokens again drawn from the whole vocabulary, so that ranges hold for any text."""
    # Every second text: verification takes the others, so that it is about texts that calibration has not seen.
    rows_of, texts = Rows(description), spread(docstrings()[0::2], count)
    role = Role.PAIR if description.task is Task.CROSS_ENCODER else Role.TEXT
    if isinstance(description, SparseModel) and description.looks_up_queries:
        role = Role.DOCUMENT
    roles = [Role.QUERY, *[Role.DOCUMENT] * (count - 1)] if interaction_of(description) else [role] * count
    rows = [rows_of(Item(each, text, text.splitlines()[0])) for each, text in zip(roles, texts, strict=False)]
    random = np.random.default_rng(0)
    drawn = [random.integers(0, rows_of.vocabulary, max(0, len(row.ids) - 2)).tolist() for row in rows]
    # The first and the last token stay, because most tokenizers put special tokens there.
    return rows + [replace(row, ids=[*row.ids[:1], *ids, *row.ids[-1:]]) for row, ids in zip(rows, drawn, strict=True)]
