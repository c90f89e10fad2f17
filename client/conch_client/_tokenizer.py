"""Text to token rows, truncated so that special tokens survive.

The tokenizer is never mutated (its own truncation and padding are switched off once), so one serves all threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tokenizers import Encoding, Tokenizer

from conch_client._errors import InvalidInputError, ServerError
from conch_client._rows import Rows
from conch_client._truncation import longest_first

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conch_client._inputs import Truncate
    from conch_client._pair_template import FramedPair

    Label = Callable[[int], str]


class Token(NamedTuple):
    """A token of a text.

    Attributes:
        id: Its number in the vocabulary.
        text: What it stands for in the text; special tokens' own names.
        special: Whether the tokenizer's template put it there.
        start: The first character that it stands for; None for special tokens.
        stop: The first character after it; None for special tokens.
    """

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class TextTokenizer:
    """A model's tokenizer.

    Args:
        content: Bytes of its ``tokenizer.json``.

    Raises:
        ServerError: The bytes are no tokenizer that this release of ``tokenizers`` can read.
    """

    def __init__(self, content: bytes) -> None:
        try:
            self._tokenizer = Tokenizer.from_str(content.decode())
        except Exception as error:  # tokenizers raises the bare class
            raise ServerError(f"the served tokenizer cannot be read ({error}); try a newer 'tokenizers'") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(
        self,
        texts: Sequence[str],
        *,
        max_length: int,
        truncate: Truncate,
        add_special_tokens: bool = True,
        label: Label = "texts[{}]".format,
    ) -> Rows:
        """Token rows of texts, none longer than ``max_length`` tokens with its special tokens.

        ``label`` says what errors call the text of a number.

        Raises:
            InvalidInputError: A text is too long and ``truncate`` is ``"none"``, or it has no token at all.
        """
        found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=add_special_tokens)
        rows = [encoding.ids for encoding in found]
        too_long = [index for index, row in enumerate(rows) if len(row) > max_length]
        if too_long:
            if truncate == "none":
                raise _too_long(label(too_long[0]), len(rows[too_long[0]]), max_length)
            specials = self._tokenizer.num_special_tokens_to_add(is_pair=False) if add_special_tokens else 0
            bare = self._tokenizer.encode_batch([texts[index] for index in too_long], add_special_tokens=False)
            for index, encoding in zip(too_long, bare, strict=True):
                _cut(encoding, max(0, max_length - specials), truncate)
                rows[index] = self._tokenizer.post_process(encoding, None, add_special_tokens).ids
        _refuse_empty(rows, label)
        return Rows.of(rows)

    def tokens(self, texts: Sequence[str], *, add_special_tokens: bool) -> list[list[Token]]:
        """All tokens of each text, however many, with their places in it."""
        found = self._tokenizer.encode_batch(texts, add_special_tokens=add_special_tokens)
        return [_described(text, encoding) for text, encoding in zip(texts, found, strict=True)]

    def decode(self, rows: Rows, *, skip_special_tokens: bool) -> list[str]:
        """The text of each row of ids; ids outside the vocabulary have none."""
        texts: list[str] = self._tokenizer.decode_batch(rows.tolist(), skip_special_tokens=skip_special_tokens)
        return texts

    def encode_pairs(self, query: str, documents: Sequence[str], *, max_length: int, truncate: Truncate) -> Rows:
        """Token rows of (query, document) pairs with their segments, as the tokenizer's template joins them.

        A pair that is too long is cut as `longest_first` says.

        Raises:
            InvalidInputError: A pair is too long and ``truncate`` is ``"none"``, or it has no token at all.
        """
        room = max(0, max_length - self._tokenizer.num_special_tokens_to_add(is_pair=True))
        asked, *found = self._tokenizer.encode_batch([query, *documents], add_special_tokens=False)
        pairs = []
        for index, document in enumerate(found):
            first = asked
            total = len(asked.ids) + len(document.ids)
            if total > room:
                if truncate == "none":
                    raise _too_long(f"documents[{index}] and the query", total + max_length - room, max_length)
                asked_length, length = longest_first(len(asked.ids), len(document.ids), room)
                first = self._shortened(query, asked_length, truncate, asked)
                _cut(document, length, truncate)
            pairs.append(self._tokenizer.post_process(first, document))
        ids = [pair.ids for pair in pairs]
        _refuse_empty(ids, "documents[{}]".format)
        return Rows.of(ids, [pair.type_ids for pair in pairs])

    def encode_framed(self, pairs: Sequence[FramedPair], *, max_length: int, truncate: Truncate) -> Rows:
        """Token rows of pairs within their frames, which stay whole where a pair is too long.

        Raises:
            InvalidInputError: A pair is too long and ``truncate`` is ``"none"``.
        """
        rows = []
        for index, encoding in enumerate(self._tokenizer.encode_batch([pair.text for pair in pairs])):
            ids = encoding.ids
            if len(ids) > max_length:
                if truncate == "none":
                    raise _too_long(f"documents[{index}] and the query", len(ids), max_length)
                ids = [ids[place] for place in pairs[index].cut(encoding.offsets, max_length, truncate)]
            rows.append(ids)
        return Rows.of(rows)

    def _shortened(self, text: str, length: int, truncate: Truncate, encoding: Encoding) -> Encoding:
        if len(encoding.ids) <= length:
            return encoding
        # Truncation happens in place, and the whole query is still needed for shorter documents.
        copy = self._tokenizer.encode(text, add_special_tokens=False)
        _cut(copy, length, truncate)
        return copy


def _described(text: str, encoding: Encoding) -> list[Token]:
    parts = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
    return [
        Token(number, name, special=True, start=None, stop=None)
        if special
        else Token(number, text[start:stop], special=False, start=start, stop=stop)
        for number, name, special, (start, stop) in parts
    ]


def _cut(encoding: Encoding, length: int, truncate: Truncate) -> None:
    encoding.truncate(length, direction="left" if truncate == "start" else "right")


def _too_long(what: str, length: int, max_length: int) -> InvalidInputError:
    return InvalidInputError(
        f"{what} has {length} tokens and the model takes {max_length}; shorten it, or pass truncate='end' or 'start'"
    )


def _refuse_empty(rows: list[list[int]], label: Label) -> None:
    for index, row in enumerate(rows):
        if not row:  # a row of length 0 would spoil every request that Triton merges it with
            raise InvalidInputError(f"{label(index)} has no token that the model could read; leave it out")
