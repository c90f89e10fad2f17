"""Sizes of requests, and how they are split into calls: one rule for every backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf

CHARACTERS_PER_TOKEN = 4  # of English; other languages have fewer, and are underestimated until they are tokenised
LONGEST_ROW = 8_192  # what is longer is cut or refused by most models

# Tokens of a call. It cannot be interrupted, so this bounds how long a text waits for others': less where single texts
# have to share an instance with long lists, although that costs some of the lists' throughput.
CALL_TOKENS = 512
CALL_TOKENS_CROWDED = 128
ROWS_ON_A_CPU = 8  # that an instance merges; those on a GPU take more, and so more calls keep them busy
CALLS_EACH = 2  # for an instance: one that it computes, one that is there when it is done
_BETWEEN_CALLS_S = 0.001  # so that Triton gives them to different instances


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


@dataclass(frozen=True, slots=True)
class Spread:
    """How the calls of one request are divided among the instances that are idle.

    Attributes:
        calls: number of calls; 1 if the request is not divided among instances.
        idle: number of instances that compute nothing.
        call_tokens: tokens of each call, about.
    """

    calls: int = 1
    idle: int = 0
    call_tokens: float = inf

    @classmethod
    def of(cls, tokens: int, rows: int, max_rows: int, idle: int) -> Spread:
        """Divide rows with so many tokens among the idle instances, in equal parts of at most `max_rows` rows."""
        if idle <= 1 or max_rows > ROWS_ON_A_CPU:  # a GPU computes a longer call in hardly more time
            return cls()
        # A multiple: with three calls at two instances one of these would be idle while the other computes the third.
        equal = idle * ceil(ceil(rows / max_rows) / idle)
        calls = min(equal, tokens // CALL_TOKENS_CROWDED, rows)
        return cls(calls, idle, tokens / calls) if calls > 1 else cls()

    def delay_s(self, number: int) -> float:
        """Return the seconds after which a call is sent; the first has number 0.

        Triton merges calls that arrive together into one batch, which one instance computes.
        """
        return _BETWEEN_CALLS_S * min(number, self.idle - 1) if self.calls > 1 else 0.0


def split(sizes: Sequence[int], max_rows: int, *, calls: int = 1, alike: bool = False) -> list[Sequence[int]]:
    """Split rows into calls of at most `max_rows`, each given by the places of its rows.

    Args:
        sizes: of the rows.
        max_rows: most rows of a call.
        calls: number of calls, of about as many tokens each; there are more where these had too many rows.
        alike: whether rows of similar size shall be in one call, so that little is padded, or neighbours.
    """
    places: Sequence[int] = range(len(sizes))
    if len(places) <= max_rows and calls <= 1:
        return [places]
    if alike:
        places = sorted(places, key=sizes.__getitem__)
    found, begin, left = list[Sequence[int]](), 0, sum(sizes)
    while begin < len(places):
        part, taken, end = left / max(1, calls - len(found)), sizes[places[begin]], begin + 1
        # A row goes where more than half of it fits.
        while end < len(places) and end - begin < max_rows and taken + sizes[places[end]] / 2 <= part:
            taken += sizes[places[end]]
            end += 1
        found.append(places[begin:end])
        begin, left = end, left - taken
    return found
