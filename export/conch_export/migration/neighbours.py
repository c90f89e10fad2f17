"""Exact nearest neighbours, and the agreement of two lists of neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from conch_contract import units

from conch_export.errors import UnsupportedError

if TYPE_CHECKING:
    from conch_contract import ModelInfo
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Places = NDArray[np.int64]

NEIGHBOURS = 10
_BLOCK = 512


def refuse_distances(info: ModelInfo) -> None:
    """Refuse a model whose neighbours are not those with the largest dot products.

    Raises:
        UnsupportedError: its authors compare vectors by a distance, and those of length 1 would not help.
    """
    is_like_cosines = info.similarity == "euclidean" and info.normalized
    if info.similarity not in (None, "cosine", "dot") and not is_like_cosines:
        msg = f"{info.name} compares vectors by {info.similarity}, and neighbours are found by cosine and dot here"
        raise UnsupportedError(f"{msg}: not built")


def compared(vectors: Floats, info: ModelInfo) -> Floats:
    """Return vectors whose dot products are a model's scores: normalised, unless its similarity is the dot product."""
    if info.normalized or info.similarity == "dot":
        return vectors
    return units(vectors)


def nearest(queries: Floats, index: Floats, own: Places | None = None) -> Places:
    """Return the places of the entries with the largest dot products, best first: int64 [queries, `NEIGHBOURS`].

    Args:
        queries: float32 [queries, dimension].
        index: float32 [entries, dimension], more than `NEIGHBOURS`.
        own: place of each query in the index, which is left out; None if they are not in the index.
    """
    found: list[Places] = []
    for begin in range(0, len(queries), _BLOCK):
        scores = queries[begin : begin + _BLOCK] @ index.T
        rows = np.arange(len(scores))[:, None]
        if own is not None:
            scores[rows[:, 0], own[begin : begin + _BLOCK]] = -np.inf
        best: Places = np.argpartition(scores, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
        found.append(best[rows, np.argsort(-scores[rows, best], axis=1, kind="stable")])
    return np.concatenate(found)


def recall(found: Places, wanted: Places) -> float:
    """Return the mean share of the wanted entries that were found; both are int64 [queries, count]."""
    return float((wanted[:, :, None] == found[:, None, :]).any(axis=2).mean())


def cosine(found: Floats, wanted: Floats) -> float:
    """Return the mean cosine of corresponding rows."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    return float(((found * wanted).sum(axis=1) / np.maximum(lengths, 1e-30)).mean())
