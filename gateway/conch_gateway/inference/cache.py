"""The cache of vectors. Equal texts of one request are computed once even without it.

The key of an entry is the hash of the text and of its variant: everything else that the vector depends on, by its
`repr`. So the cache holds no text. Where gateways share a Redis, vectors that another one has computed are found too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from importlib.metadata import version
from typing import NamedTuple, Protocol

import numpy as np
from cachetools import LRUCache
from conch_client import InvalidInputError

from conch_gateway.jobs import Answer, EmbeddingJob, Vectors, is_text

_VERSION = version("conch")  # gateways of another version may make another vector of the same text
_OVERHEAD_BYTES = 300  # of an entry beside the numbers: key, tuple, array header, place in the order


class Entry(NamedTuple):
    """A vector, float32 [dimension], and how many tokens its text has."""

    vector: Vectors
    tokens: int


class SharedVectors(Protocol):
    """A store that several gateways read and write; it may be out of reach."""

    async def find(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Return the entry of each key, or None for one that is not there, or out of reach."""

    def keep(self, entries: Mapping[bytes, Entry]) -> None:
        """Store entries, soon."""


class VectorCache:
    """Drops the least recently used entries where there are more bytes than `max_bytes`; with 0 it keeps nothing."""

    def __init__(self, max_bytes: int, shared: SharedVectors | None = None) -> None:
        self._shared = shared if max_bytes else None
        self._entries: LRUCache[bytes, Entry] | None = (
            LRUCache(max_bytes, lambda entry: entry.vector.nbytes + _OVERHEAD_BYTES) if max_bytes else None
        )

    async def complete(
        self,
        job: EmbeddingJob,
        source: object,
        compute: Callable[[EmbeddingJob], Awaitable[Answer[Vectors]]],
        *,
        anywhere: bool = False,
    ) -> Answer[Vectors]:
        """Return the vectors of all texts, float32 [texts, dimension]; what is not cached is computed, each text once.

        Where the backend does not count the tokens of each text, none are counted for cached texts. Vectors of token
        ids are not cached.

        Args:
            job: the texts, and what is to be done with them.
            source: what else vectors depend on: the model's facts, the edition of its backend, and `truncate`, which
                the job may leave to the settings.
            compute: computes the part of the job that is not cached.
            anywhere: whether `source` means the same in every gateway, so that they may share the vectors.

        Raises:
            InvalidInputError: of `compute`, with indices among all texts.
        """
        if not is_text(job.texts):
            return await compute(job)
        texts = job.texts
        unique = list(dict.fromkeys(texts))
        keys = {} if self._entries is None else _keys(unique, source, job)
        shared = self._shared if anywhere else None
        known = await self._known(keys, shared)
        missing = [text for text in unique if text not in known] if known else unique
        hits = None if self._entries is None else sum(text in known for text in texts)
        answer: Answer[Vectors] | None = None
        if missing:
            try:
                answer = await compute(job if len(missing) == len(texts) else replace(job, texts=missing))
            except InvalidInputError as error:
                first = {text: place for place, text in reversed(list(enumerate(texts)))}
                raise error.moved([first[text] for text in missing]) from error
            # Nothing to cache and no text twice: the answer is returned without a copy of its vectors.
            if self._entries is None and len(unique) == len(texts):
                return answer
            computed = zip(answer.given, answer.row_tokens or [0] * len(missing), strict=True)
            known |= {text: Entry(*entry) for text, entry in zip(missing, computed, strict=True)}
            new = {keys[text]: known[text] for text in missing if keys}
            self._keep(new)
            if shared is not None:
                shared.keep(new)
        # Not from the cache, where new entries may have driven out others of this very request.
        found = [known[text] for text in texts]
        vectors, tokens = np.stack([entry.vector for entry in found]), sum(entry.tokens for entry in found)
        if answer is None:
            return Answer(vectors, tokens, cache_hits=hits)
        # An upstream counts tokens for a whole call only; then the rows have none, and their sum is 0.
        return replace(answer, given=vectors, tokens=tokens or answer.tokens, cache_hits=hits)

    @property
    def size_bytes(self) -> int:
        """About how much memory the entries take."""
        return int(self._entries.currsize) if self._entries is not None else 0

    async def _known(self, keys: Mapping[str, bytes], shared: SharedVectors | None) -> dict[str, Entry]:
        """Return the entries of texts that are cached, here or in the shared store."""
        if self._entries is None:
            return {}
        here = ((text, self._entries.get(key)) for text, key in keys.items())
        known = {text: entry for text, entry in here if entry is not None}
        elsewhere = [text for text in keys if text not in known]
        if shared is not None and elsewhere:
            found = zip(elsewhere, await shared.find([keys[text] for text in elsewhere]), strict=True)
            fetched = {text: entry for text, entry in found if entry is not None}
            self._keep({keys[text]: entry for text, entry in fetched.items()})
            known |= fetched
        return known

    def _keep(self, entries: Mapping[bytes, Entry]) -> None:
        if self._entries is None:
            return
        for key, (vector, tokens) in entries.items():
            # LRUCache raises ValueError for an entry that is larger than itself.
            if vector.nbytes + _OVERHEAD_BYTES <= self._entries.maxsize:
                # A view would keep the vectors of all texts.
                self._entries[key] = Entry(vector.copy(), tokens)


def _keys(texts: list[str], source: object, job: EmbeddingJob) -> dict[str, bytes]:
    """Return the key of each text."""
    words = replace(job, texts=[], model=None, truncate=None, counted=True, expect_space=None)
    variant = _VERSION, source, words
    # `repr` shows a NUL as an escape, so no text can shift the border between variant and text.
    begun = blake2b(repr(variant).encode() + b"\0", digest_size=20)
    keys: dict[str, bytes] = {}
    for text in texts:
        whole = begun.copy()
        whole.update(text.encode())
        keys[text] = whole.digest()
    return keys
