"""Vectors that were computed before: a text is computed once within a request, and with a cache once for all.

An entry belongs to one text under one variant, which stands for everything else that its vector depends on, and shows
all of it when printed. Both are hashed together, so that the cache holds no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from cachetools import LRUCache

from conch_gateway.jobs import Vectors

_OVERHEAD_BYTES = 300  # of an entry beside the numbers: key, tuple, array header, place in the order


class _Entry(NamedTuple):
    vector: Vectors
    tokens: int


class VectorCache:
    """The least recently used entries leave when there are more bytes than `max_bytes`; 0 keeps nothing."""

    def __init__(self, max_bytes: int) -> None:
        self._entries: LRUCache[bytes, _Entry] | None = (
            LRUCache(max_bytes, lambda entry: entry.vector.nbytes + _OVERHEAD_BYTES) if max_bytes else None
        )

    def look_up(self, texts: Sequence[str], variant: object) -> Lookup:
        """Find what is known of these texts."""
        return Lookup(texts, self._entries, variant)

    @property
    def size_bytes(self) -> int:
        """About how much memory the entries take."""
        return int(self._entries.currsize) if self._entries is not None else 0


class Lookup:
    """What is known of some texts, and what is not.

    Attributes:
        missing: the texts to compute, each once.
        hits: how many of the texts are known from before; None without a cache.
    """

    def __init__(self, texts: Sequence[str], entries: LRUCache[bytes, _Entry] | None, variant: object) -> None:
        self._texts = texts
        self._entries = entries
        self._variant = b"" if entries is None else repr(variant).encode()
        self._found: dict[str, _Entry] = {}
        unique = list(dict.fromkeys(texts))
        if entries is not None:
            known = ((text, entries.get(self._key(text))) for text in unique)
            self._found = {text: entry for text, entry in known if entry is not None}
        self.missing = [text for text in unique if text not in self._found]
        self.hits = None if entries is None else sum(text in self._found for text in texts)

    @property
    def places(self) -> list[int]:
        """Where each of the missing comes first among the texts."""
        return [self._texts.index(text) for text in self.missing]

    def complete(self, vectors: Vectors, tokens: Sequence[int]) -> tuple[Vectors, int]:
        """Take what was computed for `missing`, and return the vectors of all texts, float32 [n, dimension].

        Args:
            vectors: float32 [missing, dimension].
            tokens: how many each of the missing has.

        Returns:
            The vectors and how many tokens all texts have.
        """
        if len(vectors) == len(self._texts) and self._entries is None:
            return vectors, sum(tokens)
        for text, vector, count in zip(self.missing, vectors, tokens, strict=True):
            self._found[text] = _Entry(vector, count)
            if self._entries is not None:
                self._keep(text, _Entry(vector.copy(), count))  # a view would keep the whole answer
        found = [self._found[text] for text in self._texts]
        return np.stack([entry.vector for entry in found]), sum(entry.tokens for entry in found)

    def _keep(self, text: str, entry: _Entry) -> None:
        if self._entries is not None and entry.vector.nbytes + _OVERHEAD_BYTES <= self._entries.maxsize:
            self._entries[self._key(text)] = entry

    def _key(self, text: str) -> bytes:
        return blake2b(self._variant + b"\0" + text.encode(), digest_size=20).digest()
