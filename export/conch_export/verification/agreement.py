"""How far answers of exported graphs are from those of the reference. Numbers, no graphs and no models."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from conch_contract import RERANKERS, Task, units

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

UNIT_VECTORS = (Task.EMBEDDING, Task.LATE_CHUNKING, Task.MULTI_VECTOR)
"""Allowed differences of their numbers are stated for vectors of length 1, whatever length the model's have."""


@dataclass(frozen=True)
class Verification:
    """Measurements of one public model.

    Attributes:
        reference: who computed the expected answers.
        texts: texts or pairs compared.
        tokens: of all of them.
        max_difference: largest |difference| of a vector's number (vectors of length 1), of a weight or of a raw score.
        max_merged_difference: largest |difference| between a text alone and the same text merged with others.
        mean_cosine: of exported and expected vectors, sparse ones by their lengths; None for rerankers.
        min_cosine: the worst of them.
        centred_cosine: the mean after the mean of all expected vectors was taken from both. Where all vectors of a
            model point the same way, plain cosines are near 1 whatever is wrong. None for rerankers and sparse vectors.
        length_error: root mean square difference of the lengths of exported and expected vectors, as a share of the
            expected ones: nothing else here tells them apart. None for rerankers and sparse vectors.
        rank_correlation: of exported and expected scores of the documents for one query (Spearman), the mean over the
            queries, each by the variance of its scores; of a classifier's texts for one label. None for others than
            rerankers and classifiers.
        score_error: root mean square difference of the scores, in standard deviations of the expected scores of the
            documents for one query, or texts for one label; None for others than rerankers and classifiers.
    """

    reference: str
    texts: int
    tokens: int
    max_difference: float
    max_merged_difference: float
    mean_cosine: float | None = None
    min_cosine: float | None = None
    centred_cosine: float | None = None
    length_error: float | None = None
    rank_correlation: float | None = None
    score_error: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; without those that say nothing of this kind of model."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def agreement(task: Task, found: Floats, expected: Floats, queries: int) -> dict[str, float]:
    """Of the answers of a public model.

    They are [n, width] vectors, [n, labels] logits, or [queries * documents, 1] scores, query by query.
    """
    if task is Task.CLASSIFICATION:
        return score_agreement(found.T, expected.T)
    if task in RERANKERS:
        return score_agreement(found.reshape(queries, -1), expected.reshape(queries, -1))
    if task is Task.SPARSE:
        return sparse_agreement(*_equally_wide(found, expected))
    return vector_agreement(found, expected) | length_agreement(found, expected)


def difference(task: Task, found: Floats, expected: Floats) -> float:
    """The largest |difference| of two numbers of a public model's answers."""
    found, expected = _equally_wide(found, expected)
    if task in UNIT_VECTORS:
        found, expected = units(found), units(expected)
    return float(np.abs(found - expected).max())


def vector_agreement(found: Floats, expected: Floats) -> dict[str, float]:
    """Cosines of [n, d] vectors row by row; NaN where the vectors are."""
    cosines = _cosines(found, expected)
    measured = {"mean_cosine": float(cosines.mean()), "min_cosine": float(cosines.min())}
    if len(expected) > 1:
        # The same mean for both: with a mean of its own each side would hide a shift that all its vectors share.
        mean = expected.mean(axis=0)
        measured["centred_cosine"] = float(_cosines(found - mean, expected - mean).mean())
    return measured


def sparse_agreement(found: Floats, expected: Floats) -> dict[str, float]:
    """Cosines of [n, d] weights row by row, each of which counts by the length of the longer row.

    A text whose tokens weigh next to nothing has no direction: rounding makes all of its weights zero.
    """
    cosines = _cosines(found, expected)
    lengths = np.maximum(np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1))
    mean = float(np.average(cosines, weights=lengths)) if lengths.any() else 1.0
    return {"mean_cosine": mean, "min_cosine": float(cosines.min())}


def length_agreement(found: Floats, expected: Floats) -> dict[str, float]:
    """The difference of the lengths of [n, d] vectors."""
    lengths, wanted = (np.linalg.norm(vectors, axis=1) for vectors in (found, expected))
    return {"length_error": _root_mean_square(lengths - wanted) / max(_root_mean_square(wanted), 1e-30)}


def score_agreement(found: Floats, expected: Floats) -> dict[str, float]:
    """Ranks and differences of [queries, documents] or [labels, texts] scores."""
    # Within each query, because only its own documents are ranked against each other.
    ranks = [float(np.corrcoef(_ranks(a), _ranks(b))[0, 1]) for a, b in zip(found, expected, strict=True)]
    variances = np.maximum(expected.var(axis=1), 1e-30)
    error = _root_mean_square(found - expected)
    # A query that fills the pair scores all documents nearly alike: their order is noise, and it counts as little.
    return {
        "rank_correlation": float(np.average(ranks, weights=variances)),
        "score_error": error / max(float(np.sqrt(variances.mean())), 1e-30),
    }


def _root_mean_square(numbers: Floats) -> float:
    return float(np.sqrt(np.square(numbers).mean()))


def stacked(answers: list[Floats]) -> Floats:
    """Several [n, width] below one another, filled up with zeros to the largest width."""
    width = max(answer.shape[1] for answer in answers)
    return np.concatenate([np.pad(answer, ((0, 0), (0, width - answer.shape[1]))) for answer in answers])


def _equally_wide(found: Floats, expected: Floats) -> tuple[Floats, Floats]:
    # Sparse answers are as wide as the largest index in them, which need not be the same.
    both = stacked([found, expected])
    return both[: len(found)], both[len(found) :]


def _cosines(a: Floats, b: Floats) -> Floats:
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    cosines = (a * b).sum(axis=1) / np.maximum(norms[0] * norms[1], 1e-30)
    # Where both are all zeros (no token weighs anything) they agree.
    return np.asarray(np.where((norms[0] == 0) & (norms[1] == 0), 1.0, cosines), np.float32)


def _ranks(scores: Floats) -> Floats:
    # The argsort of an argsort is the rank; `stable`, so that equal scores come in the same order on both sides.
    return np.asarray(np.argsort(np.argsort(scores, kind="stable"), kind="stable"), np.float32)
