"""How a query and a document that are too long together are shortened."""

from __future__ import annotations

from typing import Literal

Truncate = Literal["end", "start", "none"]
"""Which end of a text that is too long is dropped; ``"none"`` refuses it instead."""


def longest_first(query: int, document: int, room: int) -> tuple[int, int]:
    """Tokens that are kept of both, at most ``room`` together.

    The longer of the two loses tokens until both are equally long, then both do. This is ``longest_first`` of the
    tokenizers library, with which cross-encoders are trained: of an odd room the longer one gets the odd token, and
    of two that are equally long the document.
    """
    if query + document <= room:
        return query, document
    shorter = min(query, document, room // 2)
    return (shorter, room - shorter) if query <= document else (room - shorter, shorter)
