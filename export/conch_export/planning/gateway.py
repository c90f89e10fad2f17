"""Memory of tokenizers, and of the gateway, most of which is one. Hides what their library makes of a tokenizer.json.

Models with equal tokenizers share one.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_GATEWAY_BYTES = 90_000_000
"""Without a tokenizer."""
_TOKEN_BYTES, _MERGE_BYTES = 310, 40
"""Bytes of a token, by its text and by its number, and of a pair that is merged."""
_NODE_BYTES = 270
"""Bytes of a node in the tree by which a unigram model finds its tokens; one for each beginning of a token."""


def gateway_bytes(tokenizer: bytes) -> int:
    """Bytes of a gateway with this tokenizer.json."""
    return _GATEWAY_BYTES + tokenizer_bytes(tokenizer)


@lru_cache(maxsize=1)
def tokenizer_bytes(tokenizer: bytes) -> int:
    """Bytes that the library `tokenizers` holds of this tokenizer.json."""
    model = json.loads(tokenizer)["model"]
    tokens = tokens_of(model)
    held = _TOKEN_BYTES * len(tokens) + _MERGE_BYTES * len(model.get("merges") or ())
    if model.get("type") == "Unigram":
        held += _NODE_BYTES * beginnings(tokens)
    return held


def tokens_of(model: Mapping[str, Any]) -> list[str]:
    """The texts of the vocabulary of a tokenizer.json's model."""
    return [entry if isinstance(entry, str) else entry[0] for entry in model["vocab"]]


def beginnings(tokens: Iterable[str]) -> int:
    """How many different byte strings the tokens begin with."""
    # As rows of bytes in order: a token adds what follows the bytes that it shares with the one before it.
    rows = np.sort(np.array([token.encode() for token in tokens]))
    octets = rows.view(np.uint8).reshape(len(rows), rows.itemsize)
    differs = octets[1:] != octets[:-1]
    shared = np.where(differs.any(axis=1), differs.argmax(axis=1), np.char.str_len(rows[1:]))
    return int(np.char.str_len(rows).sum() - shared.sum())
