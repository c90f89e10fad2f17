"""How many tokens of a query and a document remain when the pair is too long for the model."""

from __future__ import annotations


def longest_first(query: int, document: int, room: int) -> tuple[int, int]:
    """Lengths of both, shortened to ``room`` tokens together.

    The longer of the two loses tokens until both are equally long, then both do. This is ``longest_first`` of the
    tokenizers library, with which cross-encoders are trained: of an odd room the longer one gets the odd token, and
    of two that are equally long the document.
    """
    if query + document <= room:
        return query, document
    shorter = min(query, document, room // 2)
    return (shorter, room - shorter) if query <= document else (room - shorter, shorter)
