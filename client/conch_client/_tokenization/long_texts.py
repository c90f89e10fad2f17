"""Long texts: no more of them is tokenised than is kept, and the tokens are those of the whole text.

Only a piece of the text, at the end that is kept, is tokenised. What follows the piece may change its last tokens, but
not what is before its last three words: tokenizers normalise and split from left to right, look ahead by no more than
that, and tokenise each word by itself. Where the start of a text is dropped, the tokens are those after a place that
splits words whatever was before it. A piece with too few tokens that are certain is made larger; a text where that
takes more than ``WHOLE`` characters is refused.
"""

from __future__ import annotations

import re
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from conch_contract import InvalidInputError, Truncate
    from tokenizers import Encoding, Tokenizer

    from conch_client._errors import Item
    from conch_client._tokenization.steps import Steps

WHOLE = 2**18
"""Most characters that are tokenised at once: some 0.3 s and 150 MB where each is a token."""

_PORTION, _PORTION_TEXTS = 2**16, 256  # characters and texts of one step, which should be short
_CHARACTERS_PER_TOKEN = 6  # more than most texts have, so that the first piece usually settles enough tokens
_SHORTEST = 256  # characters of a piece, however few tokens are kept
_GROWTH = 4  # of a piece that did not settle enough tokens
_WORDS = 3  # at the end of a piece, which what follows may change
_MARGIN = 64  # characters beyond the longest added token
_SPACE_IN_METASPACE = "▁"
_JOINS_WORDS = re.compile(f"[^{_SPACE_IN_METASPACE}]{_SPACE_IN_METASPACE}")
# Between two words, and between a word and punctuation: every tokenizer that splits text at all splits it here.
_BETWEEN_WORDS = re.compile(r"(?<=[^\W_]) (?=[^\W\d_])")
_AFTER_WORDS = re.compile(r"(?<=[^\W\d_])(?=[!\"#$%&()*+,./:;<=>?@\[\]{|}~\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f])")


class _Piece:
    """Tokens of a part of a text, and where words begin among them."""

    def __init__(self, encoding: Encoding, *, joins_words: bool) -> None:
        self.encoding = encoding
        self._words, self._tokens, self._joins_words = encoding.word_ids, encoding.tokens, joins_words

    def starts(self) -> Iterator[int]:
        """Numbers of the tokens that begin a word, but for the first token, in order."""
        return filter(self._begins_word, range(1, len(self._words)))

    def last_starts(self) -> Iterator[int]:
        """The same, from the last one on: most pieces have hundreds of words, and few of them matter."""
        return filter(self._begins_word, range(len(self._words) - 1, 0, -1))

    def _begins_word(self, index: int) -> bool:
        if self._words[index] != self._words[index - 1]:
            return True
        before, token, space = self._tokens[index - 1], self._tokens[index], _SPACE_IN_METASPACE
        return token.startswith(space) and not before.endswith(space) and not self._joins_words


class LongTexts:
    """Tokenises the ends of long texts, with a tokenizer that neither truncates nor pads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def first_tokens(self, text: str, room: int, item: Item) -> Steps[Encoding]:
        """At least the first ``room`` tokens of a text without special ones, all there are if it has fewer."""
        for size in _sizes(text, room):
            piece = self._piece(text[:size])
            if size == len(text) or self._certain_before(text[:size], piece) >= room:
                return piece.encoding
            yield
        raise _undecided(item, text)

    def last_tokens(self, text: str, room: int, item: Item) -> Steps[Encoding]:
        """At least the last ``room`` tokens of a text without special ones, all there are if it has fewer."""
        for size in _sizes(text, room):
            piece = self._piece(text[-size:])
            if size == len(text) or len(piece.encoding.ids) - self._certain_from(text[-size:], piece) >= room:
                return piece.encoding
            yield
        raise _undecided(item, text)

    def shortened(self, text: str, room: int, truncate: Truncate, item: Item) -> Steps[str]:
        """The text without a part of its middle, for a pair of which ``room`` tokens are kept at one end."""
        kept, read = _CHARACTERS_PER_TOKEN * room + _SHORTEST, _SHORTEST
        while kept + read < len(text):
            head, tail = (kept, read) if truncate == "end" else (read, kept)
            ends = self._word_starts(text[:head]), self._word_starts(text[-tail:])
            yield
            if all(ends):
                first, last = text[: ends[0][-1]], text[len(text) - tail + ends[1][0] :]
                tokens = self._tokenizer.encode_batch([first if truncate == "end" else last], add_special_tokens=False)
                if len(tokens[0].ids) > room + _MARGIN:
                    return first + last
            kept, read = _GROWTH * kept, _GROWTH * read
        if len(text) > WHOLE:
            raise _undecided(item, text)
        return text

    def _piece(self, text: str) -> _Piece:
        encoding = self._tokenizer.encode_batch([text], add_special_tokens=False)[0]
        return _Piece(encoding, joins_words=self._joins_words)

    def _certain_before(self, text: str, piece: _Piece) -> int:
        """How many of the first tokens are the same, whatever follows the text."""
        offsets, end = piece.encoding.offsets, len(text)
        while end and text[end - 1].isnumeric():  # some tokenizers group the digits of a number from its end
            end -= 1
        end = min(end, len(text) - _MARGIN - self._longest_added)
        settled = islice(piece.last_starts(), _WORDS, None)
        return next((start for start in settled if offsets[start][0] <= end), 0)

    def _certain_from(self, text: str, piece: _Piece) -> int:
        """Number of the token from which on all are the same, whatever precedes the text."""
        offsets, begin = piece.encoding.offsets, _MARGIN + self._longest_added
        places = {match.start() for match in _AFTER_WORDS.finditer(text, begin)}
        for match in _BETWEEN_WORDS.finditer(text, begin):
            places |= {match.start(), match.end()}  # the space belongs to the word in some tokenizers
        return next((start for start in piece.starts() if offsets[start][0] in places), len(offsets))

    def _word_starts(self, text: str) -> list[int]:
        """Characters at which words begin whatever is around the text, apart from its edges."""
        piece = self._piece(text)
        begins = {piece.encoding.offsets[start][0] for start in piece.starts()}
        edge = _MARGIN + self._longest_added
        places = (match.start() for match in _BETWEEN_WORDS.finditer(text, edge, max(edge, len(text) - edge)))
        return [place for place in places if place in begins or place + 1 in begins]

    @cached_property
    def _joins_words(self) -> bool:
        """Whether a token may reach from one word into the next; those of SentencePiece never do."""
        return any(map(_JOINS_WORDS.search, self._tokenizer.get_vocab(with_added_tokens=False)))

    @cached_property
    def _longest_added(self) -> int:
        return max((len(token.content) for token in self._tokenizer.get_added_tokens_decoder().values()), default=0)


def is_long(text: str, room: float) -> bool:
    """Whether a text most likely has more than ``room`` tokens, so that only a piece of it is tokenised."""
    return len(text) > _CHARACTERS_PER_TOKEN * room + _SHORTEST


def portions(texts: Sequence[str], beside: int = 0) -> Iterator[list[int]]:
    """Numbers of texts that are tokenised in one step, in order.

    Args:
        texts: All of them.
        beside: Characters that are tokenised with each.
    """
    part: list[int] = []
    characters = 0
    for index, text in enumerate(texts):
        size = min(len(text), _PORTION) + beside
        if part and (characters + size > _PORTION or len(part) == _PORTION_TEXTS):
            yield part
            part, characters = [], 0
        part.append(index)
        characters += size
    yield part


def _sizes(text: str, room: int) -> list[int]:
    """Sizes of the pieces that are tried one after another."""
    sizes = [_CHARACTERS_PER_TOKEN * room + _SHORTEST]
    limit = min(len(text), WHOLE)
    while sizes[-1] < limit:
        sizes.append(_GROWTH * sizes[-1])
    return [*sizes[:-1], limit]


def _undecided(item: Item, text: str) -> InvalidInputError:
    return item.error(
        f"has {len(text)} characters, and {WHOLE} of them do not tell where to cut it, as they hold hardly any words; "
        "shorten it"
    )
