"""Synthetic texts of a load: words that are one token in most vocabularies."""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass

COUNT = 1024
SPECIAL_TOKENS = 2
WORDS = (
    "time year people way day man thing woman life child world school state family student group country problem "
    "hand part place case week company system program question work government number night point home water room "
    "mother area money story fact month lot right study book eye job word business issue side kind head house "
    "service friend father power hour game line end member law car city community name president team minute idea "
    "kid body information back parent face others level office door health person art war history party result "
    "change morning reason research girl guy moment air teacher force education"
)


@dataclass(frozen=True)
class Lengths:
    """Lengths of synthetic texts in tokens, from `low` to `high`; log-normal if there is a `median`."""

    low: int
    high: int
    median: int | None = None

    @classmethod
    def parse(cls, text: str) -> Lengths:
        """Read `mixed`, a number or a range such as 8-256.

        Raises:
            ValueError: The text is none of these.
        """
        if text == "mixed":
            return cls(4, 512, median=40)
        numbers = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
        if numbers is None:
            raise ValueError(f"{text!r} must be mixed, a number, or a range such as 8-256")
        lengths = cls(int(numbers[1]), int(numbers[2] or numbers[1]))
        if not SPECIAL_TOKENS < lengths.low <= lengths.high:
            least = SPECIAL_TOKENS + 1
            raise ValueError(f"{text!r} must be at least {least}, and a range must grow, such as 8-256")
        return lengths

    def draw(self, source: random.Random) -> int:
        """Return one length."""
        if self.median is None:
            return source.randint(self.low, self.high)
        return min(self.high, max(self.low, round(source.lognormvariate(math.log(self.median), 0.9))))


def synthetic_texts(lengths: Lengths, count: int = COUNT) -> list[str]:
    """Return the same texts at every call; tokenizers may make slightly more tokens of them, which are counted."""
    source, words = random.Random(0), WORDS.split()  # noqa: S311 - no secret
    return [" ".join(source.choices(words, k=lengths.draw(source) - SPECIAL_TOKENS)) for _ in range(count)]
