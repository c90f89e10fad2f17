"""How far an exported model may be from its reference. docs/adr/0013-verification.md gives the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from conch_contract import Task

from conch_export.errors import VerificationError
from conch_export.model.description import Precision
from conch_export.verification.agreement import UNIT_VECTORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conch_export.model.public_models import PublicModel
    from conch_export.verification.agreement import Verification

_SINGLE_TOKENS = (Task.LATE_CHUNKING, Task.MULTI_VECTOR, Task.SPARSE)  # a chunk may be one token

MAX_DIFFERENCE_FP32 = 1e-5
"""Of a number of a vector of length 1. In fp32 the bars allow for rounding alone."""
MAX_SCORE_DIFFERENCE_FP32 = 1e-4
"""Of a weight or a raw score."""
MAX_MERGED_DIFFERENCE = 1e-5


@dataclass(frozen=True)
class Standard:
    """Bars that a precision must reach.

    Attributes:
        cosine: mean, of exported and expected vectors.
        token_cosine: the same of vectors of single tokens, which no pooling evens out, and of sparse vectors.
        centred_cosine: mean, without what all vectors share; of vectors of single tokens too.
        rank_correlation: of exported and expected scores of a query's documents (Spearman), mean.
        length_error: of the lengths of vectors, as a share of the expected ones.
        score_error: of the scores, in standard deviations of the expected ones.
    """

    cosine: float
    token_cosine: float
    centred_cosine: float
    rank_correlation: float
    length_error: float
    score_error: float


STANDARDS = {
    Precision.FP32: Standard(0.99999, 0.99999, 0.9999, 0.999, 0.001, 0.001),
    Precision.FP16: Standard(0.999, 0.999, 0.995, 0.995, 0.05, 0.05),
    Precision.INT8: Standard(0.995, 0.99, 0.98, 0.98, 0.2, 0.2),
}


def judge(precision: Precision, model: PublicModel, found: Verification) -> None:
    """Refuse a public model that differs too much.

    Raises:
        VerificationError: it does; the message says by what, and what to do.
    """
    problems = []
    # By itself, because a NaN is not greater than what is allowed, and would pass the comparison below.
    if not np.isfinite(found.max_difference):
        problems.append("the graphs return numbers that are not finite")
    allowed = MAX_DIFFERENCE_FP32 if model.task in UNIT_VECTORS else MAX_SCORE_DIFFERENCE_FP32
    if precision is Precision.FP32 and found.max_difference > allowed:
        problems.append(f"largest difference {found.max_difference:.1e}, allowed {allowed:.0e}")
    problems += _misses(STANDARDS[precision], model.task, found)
    if problems and precision is not Precision.FP32:
        problems[-1] += ": export it with --precision fp32, which rounds nothing"
    if not found.max_merged_difference <= MAX_MERGED_DIFFERENCE:
        problems.append(f"merging changes a vector by {found.max_merged_difference:.1e}")
    if problems:
        msg = f"{model.name} is not published, it differs from its reference ({found.reference}): "
        raise VerificationError(msg + "; ".join(problems))


def _misses(standard: Standard, task: Task, found: Verification) -> Iterator[str]:
    """Bars that the model does not reach. A NaN reaches none."""
    for what, value, bar in (
        ("mean cosine", found.mean_cosine, standard.token_cosine if task in _SINGLE_TOKENS else standard.cosine),
        ("mean centred cosine", found.centred_cosine, standard.centred_cosine),
        ("rank correlation", found.rank_correlation, standard.rank_correlation),
    ):
        if value is not None and not value >= bar:
            yield f"{what} {value:.4f}, needed {bar}"
    for what, value, bar in (
        ("lengths of vectors are off by {:.3f} of the expected ones", found.length_error, standard.length_error),
        ("scores are off by {:.2f} of their spread", found.score_error, standard.score_error),
    ):
        if value is not None and not value <= bar:
            yield f"{what.format(value)}, allowed {bar}"
