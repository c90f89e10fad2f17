"""The texts that are sent: of one word to more than the models take, most of them short."""

from __future__ import annotations

import random

VOCABULARY = (
    "a the cat sat on mat where is it late list reverse turn around place tuple cannot be changed once made sorted of "
    "returns new and to in Paris capital France river runs cold morning bread baker shell beach sound ocean"
)
ODD = ["größer, 日本語 and 🐚!", "x", "def f(x):\n\treturn x", "Wie spät ist es?", "100 % — “quoted”", "a" * 40]
SHORT = (1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 30)
LONG = (60, 90, 150, 240, 300, 700)  # words; the default model takes 256 tokens
SHARE_OF_LONG = 0.05


def texts() -> list[str]:
    """Return the texts, the short ones first; always the same."""
    chosen = random.Random(7)  # noqa: S311
    return [*ODD, *(" ".join(chosen.choices(VOCABULARY.split(), k=count)) for count in (*SHORT, *LONG))]


SHORT_TEXTS = range(len(ODD) + len(SHORT))
LONG_TEXTS = range(len(SHORT_TEXTS), len(SHORT_TEXTS) + len(LONG))
QUERIES = SHORT_TEXTS[len(ODD) : len(ODD) + 4]


def some(chance: random.Random, most: int = 3) -> list[int]:
    """Return the places of one to `most` texts."""
    return [
        chance.choice(LONG_TEXTS if chance.random() < SHARE_OF_LONG else SHORT_TEXTS)
        for _ in range(chance.randint(1, most))
    ]


def short(chance: random.Random, most: int = 3) -> list[int]:
    """Return the places of one to `most` different short texts."""
    return chance.sample(SHORT_TEXTS, chance.randint(1, most))
