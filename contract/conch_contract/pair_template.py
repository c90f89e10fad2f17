"""The text that a reranker reads for a query and a document, where its authors wrap both in words of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from conch_contract.truncation import longest_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from conch_contract.truncation import Truncate

_PLACES = re.compile(r"\{(query|document|instruction|split)\}")
_SPLIT = "split"


def is_pair_template(template: str) -> bool:
    """Whether a text has ``{query}`` and ``{document}`` in it, once each, and ``{instruction}`` once at most.

    ``{split}`` may be anywhere: what is before it and what is behind it are tokenised apart.
    """
    places = sorted(place for place in _PLACES.findall(template) if place != _SPLIT)
    return places in (["document", "query"], ["document", "instruction", "query"])


def splits_texts(template: str) -> bool:
    """Whether parts of a template are tokenised apart."""
    return _SPLIT in _PLACES.findall(template)


def takes_instruction(template: str) -> bool:
    """Whether a template has a place for what the caller instructs the reranker to look for."""
    return "instruction" in _PLACES.findall(template)


class Span(NamedTuple):
    """Characters ``begin`` to ``end`` of a text."""

    begin: int
    end: int


@dataclass(frozen=True)
class FramedPair:
    """A query and a document within their template.

    Attributes:
        text: All of it.
        query: Where the query is in it.
        document: Where the document is.
        pieces: The parts that are tokenised each by itself, which make up the text.
    """

    text: str
    query: Span
    document: Span
    pieces: tuple[Span, ...]

    @classmethod
    def of(cls, template: str, query: str, document: str, instruction: str = "") -> FramedPair:
        """Fills the places of a template; braces within the filled-in texts mean nothing."""
        values, spans, text = {"query": query, "document": document, "instruction": instruction, _SPLIT: ""}, {}, ""
        splits = [0]
        for index, piece in enumerate(_PLACES.split(template)):
            begin = len(text)
            text += values[piece] if index % 2 else piece
            if index % 2:
                spans[piece] = Span(begin, len(text))
                splits += [begin] if piece == _SPLIT else []
        pieces = tuple(Span(*ends) for ends in pairwise([*splits, len(text)]))
        return cls(text, spans["query"], spans["document"], pieces)

    def cut(self, offsets: Sequence[tuple[int, int]], length: int, truncate: Truncate) -> list[int]:
        """Numbers of the tokens to keep, so that at most ``length`` remain.

        The template's own words and the instruction stay whole; query and document are cut as `longest_first` says.

        Args:
            offsets: Begin and end of every token in the text; both 0 for those that the tokenizer added.
            length: Most tokens.
            truncate: The end that loses tokens, ``"end"`` or ``"start"``.
        """
        query, document = (list(_within(offsets, span)) for span in (self.query, self.document))
        room = max(0, length - (len(offsets) - len(query) - len(document)))
        query_kept, document_kept = longest_first(len(query), len(document), room)
        dropped = {*_dropped(query, query_kept, truncate), *_dropped(document, document_kept, truncate)}
        return [index for index in range(len(offsets)) if index not in dropped]


def _within(offsets: Sequence[tuple[int, int]], span: Span) -> Iterator[int]:
    return (i for i, (begin, end) in enumerate(offsets) if begin < end and begin >= span.begin and end <= span.end)


def _dropped(tokens: list[int], kept: int, truncate: Truncate) -> list[int]:
    return tokens[kept:] if truncate == "end" else tokens[: max(0, len(tokens) - kept)]
