"""The known values, and how an answer is compared with them.

Whoever compares needs no PyTorch, which `expectations` computes the values with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

# Largest difference of the same number between two answers: sums of float32 depend on how many rows are multiplied.
ANSWER_DIFFERENCE = 1e-5


class WrongAnswerError(Exception):
    """An answer is not the known value."""


@dataclass(frozen=True)
class Known:
    """The known values of all texts, by their place.

    Attributes:
        ids: token ids of each text, special tokens included, cut to the model's limit.
        dense: vectors of length 1, [texts, 384].
        tokens: vectors of the tokens of each text as Triton gives them, [length, 384].
        sparse: weights above zero by term, of the short texts.
        pairs: raw scores of the cross-encoder for each short text with each short text, [texts, texts].
        pair_tokens: token ids and segments of these pairs.
    """

    texts: list[str]
    ids: list[list[int]]
    dense: Floats
    tokens: list[Floats]
    sparse: list[dict[int, float]]
    pairs: Floats
    pair_tokens: dict[tuple[int, int], tuple[list[int], list[int]]]

    def late(self, place: int) -> Floats:
        """Vectors of the tokens of a text, each of length 1."""
        vectors = self.tokens[place]
        unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def late_score(self, query: int, document: int) -> float:
        """The mean, over the query's tokens, of the best cosine to any token of the document."""
        return float((self.late(query) @ self.late(document).T).max(axis=1).mean())


def same(found: Any, expected: Any, what: str, tolerance: float = ANSWER_DIFFERENCE) -> None:
    """Check numbers of any shape.

    Raises:
        WrongAnswerError: another shape, a difference above the tolerance, or NaN.
    """
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape:
        raise WrongAnswerError(f"{what}: shape {found.shape} instead of {expected.shape}")
    difference = float(np.abs(found - expected).max(initial=0.0))
    if not difference <= tolerance:
        raise WrongAnswerError(f"{what}: differs by {difference:.3g}")


def agree(found: Any, expected: Any, what: str) -> None:
    """Check what has to be equal; raises WrongAnswerError."""
    if found != expected:
        raise WrongAnswerError(f"{what}: {found!r} instead of {expected!r}")
