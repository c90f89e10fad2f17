"""Prompts: their names, and how many tokens at the beginning of a row are those of one that is not pooled."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAIN_PROMPT = "plain"
"""Name of what stands before a text without an instruction, where a model's authors put words around every text."""


def prompt_length(special: Sequence[int]) -> int:
    """Tokens of a prompt that stand before the text: all that it has alone, without the special one at its end.

    That is how sentence-transformers counts them (`include_prompt`). Where a token reaches from the prompt into the
    text, the text may begin a token earlier or later.

    Args:
        special: For each token of the prompt alone, cut as texts are, whether the tokenizer's template added it.
    """
    return len(special) - int(bool(special) and bool(special[-1]))
