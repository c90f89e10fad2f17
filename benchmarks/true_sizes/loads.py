"""The texts that a model is sent, with the ids of their tokens: short, of 512 tokens, the longest, and mixed."""

from __future__ import annotations

import json
from itertools import cycle, islice
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from benchmarks import workloads
from benchmarks.true_sizes.vocabularies import load_words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.true_sizes.shapes import Shape

SHORT_TOKENS, MIDDLE_TOKENS = 8, 512
QUERY = "which word comes next"
"""Of every pair of a reranker; its tokens count as the pair's."""
_COUNTS = {"short": 64, "middle": 16, "longest": 4, "mixed": 256}


def write(folder: Path, shape: Shape, checkpoint: Path) -> dict[str, Path]:
    """Files that workers read, by load; "longest" only if that is longer than "middle"."""
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    lengths = {
        "short": [SHORT_TOKENS + (len(QUERY.split()) if shape.is_reranker else 0)] * _COUNTS["short"],
        "middle": [min(MIDDLE_TOKENS, shape.longest)] * _COUNTS["middle"],
        "longest": [shape.longest] * _COUNTS["longest"],
        "mixed": [min(length, shape.longest) for length in workloads.lengths("mixed", _COUNTS["mixed"])],
    }
    if shape.longest <= MIDDLE_TOKENS:
        del lengths["longest"]
    words = cycle(np.random.default_rng(0).permutation(load_words()).tolist())
    paths = {name: folder / f"{name}.json" for name in lengths}
    for name, path in paths.items():
        items = [_text(tokenizer, words, length, shape) for length in lengths[name]]
        path.write_text(json.dumps({"texts": [text for text, _ in items], "ids": [ids for _, ids in items]}), "utf-8")
    return paths


def _text(tokenizer: Tokenizer, words: Iterator[str], length: int, shape: Shape) -> tuple[str, list[int]]:
    """A text of about so many tokens and no more, and its ids, special tokens and a reranker's query included."""
    chosen = list(islice(words, length))
    while True:
        text = " ".join(chosen)
        ids: list[int] = (tokenizer.encode(QUERY, text) if shape.is_reranker else tokenizer.encode(text)).ids
        if len(ids) <= length or len(chosen) == 1:
            return text, ids
        del chosen[max(1, len(chosen) - (len(ids) - length)) :]
