"""How large requests are, and the calls that they are split into: one rule for every backend."""

from __future__ import annotations

from collections.abc import Sequence

CHARACTERS_PER_TOKEN = 4  # of English; other languages have fewer, and are underestimated until they are tokenised
LONGEST_ROW = 8_192  # what is longer is cut or refused by most models

# Tokens of a call. It cannot be interrupted, so this bounds how long a text waits for others': less where single texts
# have to share an instance with long lists, although that costs some of the lists' throughput.
CALL_TOKENS = 512
CALL_TOKENS_CROWDED = 128


def estimated_sizes(
    rows: Sequence[str] | Sequence[Sequence[int]], max_length: int = LONGEST_ROW, *, beside: int = 0
) -> list[int]:
    """Return about how many tokens each row has, at most `max_length`; token ids are counted.

    Args:
        rows: texts, or their token ids.
        max_length: of a row, in tokens.
        beside: characters that are in a row with each text.
    """
    # Most models add two special tokens to a text; token ids that were sent have theirs already.
    sizes = ((len(row) + beside) // CHARACTERS_PER_TOKEN + 2 if isinstance(row, str) else len(row) for row in rows)
    return [min(size, max_length) for size in sizes]


def is_large(rows: int, tokens: int, max_rows: int) -> bool:
    """Return whether a request takes several calls, or one that is as long."""
    return rows > max_rows or tokens > CALL_TOKENS


def split(sizes: Sequence[int], max_rows: int, *, alike: bool = False) -> list[Sequence[int]]:
    """Split rows into calls of at most `max_rows`, each given by the places of its rows.

    Args:
        sizes: of the rows.
        max_rows: most rows of a call.
        alike: whether rows of similar size shall be in one call, so that little is padded, or neighbours.
    """
    places: Sequence[int] = range(len(sizes))
    if len(places) <= max_rows:
        return [places]
    if alike:
        places = sorted(places, key=sizes.__getitem__)
    return [places[begin : begin + max_rows] for begin in range(0, len(places), max_rows)]
