"""Texts on which exported graphs are compared with their reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from conch_contract import Task

from conch_export.model.description import (
    EmbeddingModel,
    GenerativeReranker,
    MultiVectorModel,
    SparseModel,
    interaction_of,
)
from conch_export.verification.texts import docstrings, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conch_export.model.description import Description
    from conch_export.model.public_models import PublicModel

_QUERIES = 3
_TEXTS = 48
_PAIRED_TEXTS = 16
"""For a cross-encoder, which computes each of them with every query."""
_ADDED_TOKENS = 4
_LONGEST_RUN = 512
"""Texts and pairs that fill a longer model are tokenised and compared, but only a part of one is computed."""
LONGEST_TOKENS = 1024
"""Of that part: what the authors' library takes for it grows with the square of its tokens."""
LONGEST_CHARACTERS = 5 * _LONGEST_RUN // 2
"""Other texts that are computed are cut here: the attention scores that the authors' library holds of one long
docstring took as much memory as all weights of a model of 150 million."""
KNOWN_TEXT = "Hello, WORLD! MiXeD CaSe, O'Neill's co-op; e-mail: someone@example.com"
"""Text of the known answer, which served models are asked to embed (the canary)."""
_UNUSUAL = (
    "",
    "a",
    ".",
    KNOWN_TEXT,
    "Où est l'école? Ça coûte 5 €; naïve Ångström, İstanbul, Straße, Ελληνικά",
    "猫が座った。東京タワー、一二三。我们喜欢猫。고양이",
    "😀 thumbs up 👍🏽, family 👨‍👩‍👧, flag 🇫🇷",
    "x = [i**2 for i in range(10)]  # tabs\tand\nnew lines, 1,234.5e-6",
    "ﬁne ligature, Ⅷ, ½, zero\u200bwidth, soft­hyphen, e\u0301 and é",
    "Привет, мир! مرحبا بالعالم नमस्ते ไทย",
)


class Role(str, Enum):
    """The role of a text, by which the model reads it."""

    TEXT = "text"
    """The model's default prompt comes before it."""
    QUERY = "query"
    DOCUMENT = "document"
    PAIR = "pair"


@dataclass(frozen=True)
class Item:
    """One text, or a query and a document for a cross-encoder.

    Attributes:
        role: how the model treats it.
        text: the text, or a pair's document.
        query: of a pair.
        prompt_name: the prompt of a text; None for the default one.
    """

    role: Role
    text: str
    query: str = ""
    prompt_name: str | None = None


@dataclass(frozen=True)
class Sample:
    """Texts, and queries that rank them. Some tokenizers give an empty text no tokens: it is no row then.

    Attributes:
        queries: each is a part of one of the texts, so that every ranking has a best one.
        texts: from the shortest to the longest, then unusual ones.
        long: texts that exceed the model's length.
    """

    queries: tuple[str, ...]
    texts: tuple[str, ...]
    long: tuple[str, ...]

    def items(self, description: Description, model: PublicModel, tokens_of: Callable[[Item], int]) -> list[Item]:
        """The items of a public model; for late interaction the queries, then the documents.

        Of a model that reads more than 512 tokens one text is long, or a pair for each query: LONGEST_TOKENS tokens.

        Args:
            description: of what is exported.
            model: which of its public models computes them.
            tokens_of: the number of tokens of an item.
        """
        long = self.long if description.max_length <= _LONGEST_RUN else self.long[:1]
        most = min(LONGEST_TOKENS, description.max_length)
        items = _items(description, model, self.queries, [*self.texts, *long])
        named = [Item(Role.TEXT, KNOWN_TEXT, prompt_name=name) for name in _other_prompts(description, model)]
        return [_shortened(item, most, tokens_of) if item.text in long else item for item in items] + named

    def long_items(self, description: Description, model: PublicModel) -> list[Item]:
        """Items that are only tokenised, as they take long to compute."""
        if description.max_length <= _LONGEST_RUN or isinstance(description, GenerativeReranker):
            return []
        queries = [*self.queries, *(_part_of_a_pair(text, description.max_length) for text in self.long)]
        return _items(description, model, queries, self.long)


def _items(description: Description, model: PublicModel, queries: Sequence[str], texts: Sequence[str]) -> list[Item]:
    if model.task is Task.CROSS_ENCODER:
        return [Item(Role.PAIR, text, query) for query in queries for text in texts]
    if isinstance(description, SparseModel) and description.looks_up_queries:
        # Every text as either, since queries may be long and unusual too.
        return [Item(Role.DOCUMENT if model.queries is None else Role.QUERY, text) for text in texts]
    if model.task is Task.CLASSIFICATION:  # of texts or of pairs: the checkpoint does not say which
        pairs = [Item(Role.PAIR, text, queries[0]) for text in texts[::4]]
        return [Item(Role.TEXT, text) for text in texts] + pairs
    if model.task is Task.LATE_INTERACTION or interaction_of(description) is not None:
        return [Item(Role.QUERY, query) for query in queries] + [Item(Role.DOCUMENT, text) for text in texts]
    return [Item(Role.TEXT, text) for text in texts]


def _shortened(item: Item, most: int, tokens_of: Callable[[Item], int]) -> Item:
    """The item with as much of its text as makes so many tokens."""
    while item.text and (tokens := tokens_of(item)) > most:
        item = replace(item, text=item.text[: len(item.text) * most // tokens])
    return item


def _part_of_a_pair(text: str, max_length: int) -> str:
    """The begin of a long text: at least half of the tokens that a pair may have, so that both of its texts are cut."""
    return text[: 3 * max_length]


def _other_prompts(description: Description, model: PublicModel) -> list[str]:
    """Names of the prompts beside the default one, of a model that puts them before single texts."""
    is_of_texts = isinstance(description, EmbeddingModel | MultiVectorModel | SparseModel) and model.base is None
    looks_up = isinstance(description, SparseModel) and description.looks_up_queries
    if not is_of_texts or looks_up or interaction_of(description) is not None:
        return []
    return [name for name in description.prompts if name != description.default_prompt_name]


def verification_sample(description: Description, added_tokens: Sequence[str]) -> Sample:
    """Texts that calibration has not seen, for a model whose tokenizer has these added tokens."""
    is_pair = description.task is Task.CROSS_ENCODER
    texts = [text[:LONGEST_CHARACTERS] for text in spread(docstrings()[1::2], _PAIRED_TEXTS if is_pair else _TEXTS)]
    step = len(texts) // _QUERIES
    queries = [text.splitlines()[0] for text in texts[step // 2 :: step][:_QUERIES]]
    spacing = max(1, (len(added_tokens) - 1) // (_ADDED_TOKENS - 1))  # from the first to the last
    added = (f"before {token} after, and{token}within" for token in added_tokens[::spacing][:_ADDED_TOKENS])
    texts += [*_UNUSUAL, *added]
    long = " ".join(docstrings()[1::2])[: 8 * description.max_length]
    if isinstance(description, GenerativeReranker):
        # How a template's pair is cut is conch's own rule, with no reference: no pair may come near the limit.
        fits = description.max_length >= 2 * LONGEST_TOKENS
        return Sample(tuple(queries), tuple(text[:300] for text in texts), (long,) if fits else ())
    if is_pair:
        queries[-1] = _part_of_a_pair(long, min(description.max_length, _LONGEST_RUN))
    return Sample(tuple(queries), tuple(texts), (long, long[::-1]))
