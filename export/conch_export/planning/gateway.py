"""Memory of tokenizers, and of the gateway, most of which is one. Hides what their library makes of a tokenizer.json.

Models with equal tokenizers share one.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    return held_bytes(tokenizer, _TOKEN_BYTES, _MERGE_BYTES, _NODE_BYTES)


def held_bytes(tokenizer: bytes, token: int, merge: int, node: int) -> int:
    """Bytes of a tokenizer.json in memory, by those of a token, of a merge, and of a node of a unigram's tree."""
    model = json.loads(tokenizer)["model"]
    tokens = [entry if isinstance(entry, str) else entry[0] for entry in model["vocab"]]
    nodes = _beginnings(tokens) if model.get("type") == "Unigram" else 0
    return token * len(tokens) + merge * len(model.get("merges") or ()) + node * nodes


def _beginnings(tokens: Iterable[str]) -> int:
    """How many different byte strings the tokens begin with."""
    # As rows of bytes in order: a token adds what follows the bytes that it shares with the one before it.
    rows = np.sort(np.array([token.encode() for token in tokens]))
    octets = rows.view(np.uint8).reshape(len(rows), rows.itemsize)
    differs = octets[1:] != octets[:-1]
    shared = np.where(differs.any(axis=1), differs.argmax(axis=1), np.char.str_len(rows[1:]))
    return int(np.char.str_len(rows).sum() - shared.sum())
