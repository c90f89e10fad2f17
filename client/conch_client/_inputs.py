"""Checks of arguments, done once at the edge, so that everything behind it works on known types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from conch_contract import InvalidInputError

from conch_client._errors import Item
from conch_client._tokenization.rows import Rows

Texts = Sequence[str] | Sequence[Sequence[int]]
"""Texts, or token-id sequences that are taken as they are (special tokens included)."""

_MAX_ID = 2**31 - 1
_INLINE_TEXTS = 8
_INLINE_SIZE = 20_000


@dataclass(frozen=True, slots=True)
class Inputs:
    """Checked input: either ``texts`` or token ``rows``.

    Attributes:
        texts: Texts that encode to UTF-8; None where rows were given.
        rows: Token ids in range, none empty; None where texts were given.
    """

    texts: list[str] | None
    rows: Rows | None

    @property
    def heavy(self) -> bool:
        """Whether preparing it takes long enough (over a millisecond or so) to be kept off an event loop."""
        if self.texts is None:
            return self.rows is not None and len(self.rows.ids) > _INLINE_SIZE
        return is_heavy(self.texts)


def is_heavy(texts: list[str]) -> bool:
    """Whether tokenising these takes long enough to be kept off an event loop."""
    return len(texts) > _INLINE_TEXTS or sum(map(len, texts)) > _INLINE_SIZE


def check_texts(values: object, name: str = "texts") -> list[str]:
    """The values as a list, if each is a text that can be encoded.

    Raises:
        InvalidInputError: Empty, not a list, or an item is not such a text.
    """
    items = _items(values, name)
    for index, value in enumerate(items):
        check_text(value, Item.of(name, index))
    return items


def check_text(value: object, item: Item) -> str:
    """The value itself, if it is a text without lone surrogates (which no tokenizer takes)."""
    if not isinstance(value, str):
        raise item.error(f"must be a str, not {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise item.error(
                f"has a lone surrogate at character {error.start}; "
                "clean it, for example with text.encode('utf-8', 'replace').decode()"
            ) from error
    return value


def check_inputs(values: object) -> Inputs:
    """Texts or token-id sequences, by the kind of the first item.

    Raises:
        InvalidInputError: Empty, neither of the two, a mixture, or malformed ids; the error has the index.
    """
    items = _items(values, "texts")
    if isinstance(items[0], str):
        return Inputs(check_texts(items), None)
    if isinstance(items[0], (int, np.integer)):
        raise InvalidInputError("texts is one token-id sequence; wrap it: [ids]")
    return Inputs(None, _token_rows(items))


def check_classified(values: object) -> list[str | tuple[str, str]]:
    """The values as a list, if each is a text or a pair of texts.

    Raises:
        InvalidInputError: Empty, not a list, or an item is neither; the error has the index.
    """
    items = _items(values, "inputs")
    return [_text_or_pair(value, Item.of("inputs", index)) for index, value in enumerate(items)]


def check_ids(values: object) -> Rows:
    """Rows of token ids; raises InvalidInputError for anything else."""
    rows = check_inputs(values).rows
    if rows is None:
        raise InvalidInputError("ids must be a list of lists of token ids, not of texts")
    return rows


def check_truncate(truncate: object) -> None:
    """Raises InvalidInputError for anything but a ``Truncate``."""
    if truncate not in {"end", "start", "none"}:
        raise InvalidInputError(f"truncate must be 'end', 'start' or 'none', not {truncate!r}")


def check_count(value: object, name: str) -> None:
    """Raises InvalidInputError unless the value is None or an integer of at least 1."""
    if value is not None:
        check_integer(value, name, least=1)


def check_integer(value: object, name: str, *, least: int) -> None:
    """Raises InvalidInputError unless the value is an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InvalidInputError(f"{name} must be an integer of at least {least}, not {value!r}")


def _text_or_pair(value: object, item: Item) -> str | tuple[str, str]:
    if not isinstance(value, (list, tuple)):
        return check_text(value, item)
    if len(value) != 2:
        raise item.error(f"must be a text or a pair of texts, not {len(value)} of them")
    first, second = (check_text(text, item) for text in value)
    return first, second


def _items(values: object, name: str) -> list[Any]:
    if isinstance(values, (str, bytes)):
        raise InvalidInputError(f"{name} must be a list; wrap the single text: [text]")
    if isinstance(values, (Mapping, Set)) or not isinstance(values, Iterable):
        raise InvalidInputError(f"{name} must be a list, not {type(values).__name__}")
    items = list(values)
    if not items:
        raise InvalidInputError(f"{name} is empty; give at least one")
    return items


def _token_rows(values: list[Any]) -> Rows:
    for index, value in enumerate(values):
        if not isinstance(value, (list, tuple, np.ndarray)):
            kind = type(value).__name__
            raise Item.text(index).error(f"must be a list of token ids like the first item, not {kind}")
    # All at once, which is faster; but of integers of some types numpy then makes floats.
    if not _are_ids(list(chain.from_iterable(values))):
        for index, value in enumerate(values):
            if not _are_ids(value):
                raise Item.text(index).error(f"must hold integers from 0 to {_MAX_ID}, and nothing else")
    return Rows.of(values)


def _are_ids(values: Any) -> bool:
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):
        return False
    if array.size == 0:
        return True  # `Rows.of` refuses empty rows, with a better message
    return array.ndim == 1 and array.dtype.kind in "iu" and array.min() >= 0 and bool(array.max() <= _MAX_ID)
