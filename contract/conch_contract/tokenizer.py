"""Checks of a `tokenizer.json` beyond those of the library `tokenizers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def repeats_a_text(post_processor: Mapping[str, Any] | None) -> bool:
    """Whether a template of the `post_processor` of a parsed tokenizer.json has the same text twice.

    Where texts are cut, `tokenizers` joins every rest with every other, for each repetition anew: twenty of them take
    more memory than there is, and end the process.
    """
    processor = post_processor or {}
    for part in processor.get("processors", [processor]):
        for template in (part.get("single"), part.get("pair")):
            places = [piece["Sequence"]["id"] for piece in template or () if "Sequence" in piece]
            if len(places) != len(set(places)):
                return True
    return False
