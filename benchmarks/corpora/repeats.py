"""How much of a real corpus is repeated, within shards and across them; `results/corpus-repeats.json`.

    python -m benchmarks.corpora.repeats

The corpus are the docstrings of installed packages, until there are 50,000 different ones: packages bring copies of
each other, and methods have those of other classes. Counted are the tokens that are computed if every row is, if equal
texts of a shard are computed once, and if equal texts of the corpus are, as `conch embed` does: in the order of the
files, and in one that tells nothing.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from benchmarks.corpora.docstrings import docstrings, modules
from benchmarks.machine import ROOT, keep
from benchmarks.models import NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESULT = ROOT / "benchmarks" / "results" / "corpus-repeats.json"
MAX_LENGTH = 256
SHARD_ROWS = 4096
DISTINCT = 50_000


def main() -> None:
    keep(RESULT, "python -m benchmarks.corpora.repeats", repeats(with_repetitions()))


def with_repetitions() -> list[str]:
    """The docstrings as they come."""
    texts: list[str] = []
    distinct: set[str] = set()
    for module in modules():
        found = list(docstrings(module))
        texts += found
        distinct |= set(found)
        if len(distinct) >= DISTINCT:
            break
    return texts


def repeats(texts: Sequence[str]) -> dict[str, Any]:
    """Tokens of all rows, and the shares of them that are computed if equal texts are computed once."""
    lengths = _lengths(list(dict.fromkeys(texts)))
    shuffled = random.Random(0).sample(texts, len(texts))
    of_all = sum(lengths[text] for text in texts)
    return {
        "texts": len(texts),
        "distinct": len(lengths),
        "tokens": of_all,
        "shard_rows": SHARD_ROWS,
        "computed": {
            "once a shard, in the order of the files": round(_once_a_shard(texts, lengths) / of_all, 4),
            "once a shard, in any order": round(_once_a_shard(shuffled, lengths) / of_all, 4),
            "once": round(sum(lengths.values()) / of_all, 4),
        },
    }


def _once_a_shard(texts: Sequence[str], lengths: Mapping[str, int]) -> int:
    shards = (set(texts[at : at + SHARD_ROWS]) for at in range(0, len(texts), SHARD_ROWS))
    return sum(lengths[text] for shard in shards for text in shard)


def _lengths(texts: Sequence[str]) -> dict[str, int]:
    path = ROOT / "model_repository" / f"{NAME}.tokenizer" / "1" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    return {text: len(found) for text, found in zip(texts, tokenizer.encode_batch_fast(list(texts)), strict=True)}


if __name__ == "__main__":
    main()
