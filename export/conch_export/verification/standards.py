"""How far an exported model may be from its reference. docs/adr/0013-verification.md gives the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from conch_contract import Task

from conch_export.errors import VerificationError
from conch_export.model.description import Description, Precision

if TYPE_CHECKING:
    from conch_export.model.parts import Part
    from conch_export.verification.agreement import Verification

_UNIT_VECTORS = (Task.EMBEDDING, Task.MULTI_VECTOR)
_SINGLE_TOKENS = (Task.MULTI_VECTOR, Task.SPARSE)

MAX_DIFFERENCE_FP32 = 1e-5
MAX_SCORE_DIFFERENCE_FP32 = 1e-4
MAX_MERGED_DIFFERENCE = 1e-5


@dataclass(frozen=True)
class Standard:
    """What a precision must reach.

    Attributes:
        cosine: mean, of exported and expected vectors.
        token_cosine: the same of vectors of single tokens, which no pooling evens out, and of weights of words.
        centred_cosine: mean, without what all vectors share.
        centred_token_cosine: the same of vectors of single tokens.
        rank_correlation: of exported and expected scores of a query's documents (Spearman), mean.
        score_error: of the scores, in standard deviations of the expected ones.
    """

    cosine: float
    token_cosine: float
    centred_cosine: float
    centred_token_cosine: float
    rank_correlation: float
    score_error: float


STANDARDS = {
    Precision.FP32: Standard(0.99999, 0.99999, 0.9999, 0.9999, 0.999, 0.001),
    Precision.FP16: Standard(0.999, 0.999, 0.995, 0.995, 0.995, 0.05),
    Precision.INT8: Standard(0.995, 0.99, 0.98, 0.98, 0.98, 0.2),
}


def judge(description: Description, part: Part, found: Verification) -> None:
    """Refuse a public model that differs too much.

    Raises:
        VerificationError: it does; the message says by what, and what to do.
    """
    problems = []
    if not np.isfinite(found.max_difference):
        problems.append("the graphs return numbers that are not finite")
    allowed = MAX_DIFFERENCE_FP32 if part.task in _UNIT_VECTORS else MAX_SCORE_DIFFERENCE_FP32
    if description.precision is Precision.FP32 and found.max_difference > allowed:
        problems.append(f"largest difference {found.max_difference:.1e}, allowed {allowed:.0e}")
    problems += _misses(STANDARDS[description.precision], part, found)
    if problems and description.precision is not Precision.FP32:
        problems[-1] += ": export it with --precision fp32, which rounds nothing"
    if found.max_merged_difference > MAX_MERGED_DIFFERENCE:
        problems.append(f"merging changes a vector by {found.max_merged_difference:.1e}")
    if problems:
        message = f"{part.name} is not published, it differs from its reference ({found.reference}): "
        raise VerificationError(message + "; ".join(problems))


def _misses(standard: Standard, part: Part, found: Verification) -> list[str]:
    """What the model does not reach."""
    cosine, centred_cosine = standard.cosine, standard.centred_cosine
    if part.task in _SINGLE_TOKENS:
        cosine, centred_cosine = standard.token_cosine, standard.centred_token_cosine
    least = (
        ("mean cosine", found.mean_cosine, cosine),
        ("mean centred cosine", found.centred_cosine, centred_cosine),
        ("rank correlation", found.rank_correlation, standard.rank_correlation),
    )
    missed = [(what, value, bar) for what, value, bar in least if value is not None and not value >= bar]
    problems = [f"{what} {value:.4f}, needed {bar}" for what, value, bar in missed]
    if found.score_error is not None and not found.score_error <= standard.score_error:
        problems.append(f"scores are off by {found.score_error:.2f} of their spread, allowed {standard.score_error}")
    return problems
