"""The requests that are sent to real deployments and to simulated ones: the same ones at the same moments."""

from __future__ import annotations

import random

from conch.load.texts import SPECIAL_TOKENS, WORDS, Lengths
from conch.simulation.load import Request, poisson

LONGEST = 256
SEED = 11


def lengths() -> list[int]:
    """Return a sample of text lengths, as `conch bench --lengths mixed` draws them, within all-MiniLM-L6-v2's limit."""
    source, mixed = random.Random(SEED), Lengths(4, LONGEST, median=40)
    return [mixed.draw(source) for _ in range(1024)]


def trace(per_s: float, seconds: float, round_: int) -> list[Request]:
    """Requests with one text each; the same for the same arguments, others in another round."""
    return list(poisson(per_s, lengths(), seconds=seconds, seed=SEED + round_))


def texts(counts: list[int], *, unit: str) -> list[str]:
    """Return texts with exactly as many tokens.

    Args:
        counts: Tokens of each, special ones included.
        unit: `word`: a token is a word; `byte`: it is a byte, as with the tokenizer of stand-ins.
    """
    source, words = random.Random(SEED), WORDS.split()
    rooms = [count - SPECIAL_TOKENS for count in counts]
    return ["x" * room if unit == "byte" else " ".join(source.choices(words, k=room)) for room in rooms]
