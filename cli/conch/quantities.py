"""Lengths and sizes as people write them: `long`, `2GB`."""

from __future__ import annotations

import re

import typer

LENGTHS = {"short": 1024, "medium": 2048, "long": 4096, "maximum": 8192}
"""Tokens of a text, by name."""
TOKENS = f"TOKENS|{'|'.join(LENGTHS)}"
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def tokens(text: str) -> int:
    """Return a number of tokens from a number or a name."""
    if text in LENGTHS:
        return LENGTHS[text]
    if not text.isdecimal():
        message = f"{text!r} is neither a number of tokens nor one of {', '.join(LENGTHS)}"
        raise typer.BadParameter(message)
    return int(text)


def size(text: str) -> int:
    """Return bytes from `2GB` (10^9), `512MiB` (2^20) and the like."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    if not found or found[2] not in _BYTES:
        message = f"{text!r} is no size: write it as 2GB or 512MiB"
        raise typer.BadParameter(message)
    return int(float(found[1]) * _BYTES[found[2]])
