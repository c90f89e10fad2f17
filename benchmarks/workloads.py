"""The texts that every system computes: the same, in the same order, short enough that none is truncated.

Each text is known both as a string and as the token ids that the model's tokenizer makes of it. The synthetic ones are
made of words that are one token each, so that a length is what it says for whoever tokenises.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from conch_export.verification.texts import docstrings

from benchmarks.peers.protocol import Item

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tokenizers import Tokenizer

NAMES = ("mixed", "short", "uniform", "real")
# The median text of `mixed`, for one request at a time.
SINGLE = "single"
TEXTS = 1024
SPECIAL_TOKENS = 2
REAL_MAX_LENGTH = 256


def lengths(name: str, count: int = TEXTS, seed: int = 1) -> list[int]:
    """Tokens of each synthetic text, special tokens included.

    `mixed` is log-normal with median 40 and sigma 0.9, cut to 4 to 512, as in retrieval over prose.
    """
    if name == "mixed":
        drawn = np.random.default_rng(seed).lognormal(np.log(40), 0.9, count)
        mixed: list[int] = np.clip(drawn, 4, 512).astype(int).tolist()
        return mixed
    return [{"short": 16, "uniform": 128, SINGLE: 40}[name]] * count


def make(name: str, tokenizer: Tokenizer) -> list[Item]:
    """The texts of one workload; the same at every call.

    Args:
        name: one of `NAMES`, or `SINGLE`.
        tokenizer: the model's, with neither padding nor truncation.
    """
    if name == "real":
        return real(tokenizer, REAL_MAX_LENGTH)
    random, words = np.random.default_rng(2), np.array(single_token_words(tokenizer))
    texts = [" ".join(random.choice(words, length - SPECIAL_TOKENS)) for length in lengths(name)]
    return _items(tokenizer, texts)


def real(tokenizer: Tokenizer, max_length: int) -> list[Item]:
    """Return docstrings of the standard library in a fixed random order, each cut to the limit of tokens."""
    texts = []
    for text, encoding in zip(docstrings(), tokenizer.encode_batch(docstrings()), strict=True):
        room = max_length - SPECIAL_TOKENS
        content = encoding.offsets[1:-1]
        texts.append(text if len(content) <= room else text[: content[room - 1][1]])
    order = np.random.default_rng(3).permutation(len(texts))[: 2 * TEXTS]
    return [item for item in _items(tokenizer, [texts[i] for i in order]) if len(item.ids) <= max_length]


def single_token_words(tokenizer: Tokenizer) -> list[str]:
    """Plain lower-case words of the vocabulary that are one token, in order of their ids."""
    vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=False)
    words = [word for word in vocabulary if word.isascii() and word.isalpha() and word.islower() and len(word) > 1]
    encodings = tokenizer.encode_batch(words, add_special_tokens=False)
    kept = [word for word, encoding in zip(words, encodings, strict=True) if len(encoding.ids) == 1]
    return sorted(kept, key=vocabulary.__getitem__)


def write(folder: Path, tokenizer: Tokenizer, names: Iterable[str] = (*NAMES, SINGLE)) -> dict[str, Path]:
    """Files that workers read, by workload."""
    paths = {name: folder / f"{name}.json" for name in names}
    for name, path in paths.items():
        items = make(name, tokenizer)
        path.write_text(json.dumps({"texts": [i.text for i in items], "ids": [i.ids for i in items]}), "utf-8")
    return paths


def summary(items: list[Item]) -> dict[str, Any]:
    """Facts about a workload."""
    counts = np.array([len(item.ids) for item in items])
    return {
        "texts": len(items),
        "tokens": int(counts.sum()),
        "median": float(np.median(counts)),
        "max": int(counts.max()),
    }


def _items(tokenizer: Tokenizer, texts: list[str]) -> list[Item]:
    return [Item(text, encoding.ids) for text, encoding in zip(texts, tokenizer.encode_batch(texts), strict=True)]
