"""What exported graphs and their reference are both asked in a verification."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from conch_contract import Task

from conch_export.model.description import Description, GenerativeReranker, interaction_of
from conch_export.verification.texts import docstrings, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_export.model.parts import Part

_QUERIES = 3
_TEXTS = 48
_PAIRED_TEXTS = 16
"""For a cross-encoder, which computes each of them with every query."""
_ADDED_TOKENS = 4
_LONGEST_RUN = 512
"""Texts that fill a longer model are tokenised and compared, but not computed."""
_UNUSUAL = (
    "a",
    ".",
    "Hello, WORLD! MiXeD CaSe, O'Neill's co-op; e-mail: someone@example.com",
    "Où est l'école? Ça coûte 5 €; naïve Ångström, İstanbul, Straße, Ελληνικά",
    "猫が座った。東京タワー、一二三。我们喜欢猫。고양이",
    "😀 thumbs up 👍🏽, family 👨‍👩‍👧, flag 🇫🇷",
    "x = [i**2 for i in range(10)]  # tabs\tand\nnew lines, 1,234.5e-6",
    "ﬁne ligature, Ⅷ, ½, zero\u200bwidth, soft­hyphen, e\u0301 and é",
    "Привет, мир! مرحبا بالعالم नमस्ते ไทย",
)


class Role(str, Enum):
    """What a text is to the model."""

    TEXT = "text"
    """Its default prompt comes before it."""
    QUERY = "query"
    DOCUMENT = "document"
    PAIR = "pair"


@dataclass(frozen=True)
class Item:
    """One text, or a query and a document for a cross-encoder.

    Attributes:
        role: what it is to the model.
        text: the text, or a pair's document.
        query: of a pair.
    """

    role: Role
    text: str
    query: str = ""


@dataclass(frozen=True)
class Sample:
    """Texts, and queries that rank them.

    Attributes:
        queries: each is a part of one of the texts, so that every ranking has a best one.
        texts: from the shortest to the longest, then unusual ones.
        long: texts that exceed the model's length.
    """

    queries: tuple[str, ...]
    texts: tuple[str, ...]
    long: tuple[str, ...]

    def items(self, description: Description, part: Part) -> list[Item]:
        """What the part is asked; of rerankers the queries, if they are rows of their own, then the documents."""
        texts = [*self.texts, *(self.long if description.max_length <= _LONGEST_RUN else ())]
        return self._items(description, part, texts)

    def long_items(self, description: Description, part: Part) -> list[Item]:
        """What is only tokenised, as it takes long to compute."""
        return [] if description.max_length <= _LONGEST_RUN else self._items(description, part, list(self.long))

    def _items(self, description: Description, part: Part, texts: list[str]) -> list[Item]:
        if part.task is Task.CROSS_ENCODER:
            return [Item(Role.PAIR, text, query) for query in self.queries for text in texts]
        if part.task is Task.LATE_INTERACTION or interaction_of(description) is not None:
            queries = [Item(Role.QUERY, query) for query in self.queries]
            return queries + [Item(Role.DOCUMENT, text) for text in texts]
        return [Item(Role.TEXT, text) for text in texts]


def verification_sample(description: Description, added_tokens: Sequence[str]) -> Sample:
    """Texts that calibration has not seen, for a model whose tokenizer has these added tokens."""
    texts = spread(docstrings()[1::2], _PAIRED_TEXTS if description.task is Task.CROSS_ENCODER else _TEXTS)
    step = len(texts) // _QUERIES
    queries = [text.splitlines()[0] for text in texts[step // 2 :: step][:_QUERIES]]
    unusual = [*_UNUSUAL, *(f"before {token} after, and{token}within" for token in _picked(added_tokens))]
    if isinstance(description, GenerativeReranker):
        # How a template's pair is cut is conch's own rule, with no reference: no pair may be too long.
        return Sample(tuple(queries), tuple(text[:300] for text in [*texts, *unusual]), ())
    long = " ".join(docstrings()[1::2])[: 8 * description.max_length]
    if description.task is Task.CROSS_ENCODER:
        queries[-1] = long[: 3 * description.max_length]  # as long as half of the room or more
    return Sample(tuple(queries), (*texts, *unusual), (long, long[::-1]))


def _picked(tokens: Sequence[str]) -> Sequence[str]:
    """Some of them, from the first to the last."""
    step = max(1, (len(tokens) - 1) // max(1, _ADDED_TOKENS - 1))
    return tokens[::step][:_ADDED_TOKENS]
