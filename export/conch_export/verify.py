"""Comparing exported graphs with the PyTorch model they come from, on real sentences, before anything is published."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conch_export.description import Description, Precision, Task
from conch_export.engine import Engine, can_run
from conch_export.errors import VerificationError
from conch_export.graphs.encoder import Target
from conch_export.rows import verification_rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TEXTS = 64
MAX_DIFFERENCE_FP32 = 1e-5
MAX_SCORE_DIFFERENCE_FP32 = 1e-4
MIN_MEAN_COSINE = {Precision.INT8: 0.995, Precision.FP16: 0.999}
MAX_MERGED_DIFFERENCE = 1e-5


@dataclass(frozen=True)
class Verification:
    """What was measured.

    Attributes:
        texts: sentences compared.
        tokens: of all of them.
        max_difference: largest |difference| of a vector's number (normalised vectors) or of a raw score.
        mean_cosine: of exported and reference vectors; for a cross-encoder of the first token's vectors.
        min_cosine: the worst of them.
        max_merged_difference: largest |difference| between a text alone and the same text merged with others.
    """

    texts: int
    tokens: int
    max_difference: float
    mean_cosine: float
    min_cosine: float
    max_merged_difference: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def verify(description: Description, encoder: Path, head: Path, target: Target = Target.CPU) -> Verification:
    """Measure the exported graphs against PyTorch.

    Raises:
        VerificationError: they differ by more than the precision allows, or cannot be run here.
    """
    if not can_run(target):
        message = (
            f"{description.name} is not published: nothing here runs {target.value} graphs to verify them. Export it "
        )
        message += "on a machine with a GPU and onnxruntime-gpu"
        raise VerificationError(message)
    # Imported late: everything but a verification does without PyTorch, which takes seconds to load.
    from conch_export.reference import Reference  # noqa: PLC0415

    reference = Reference(description)
    rows = verification_rows(description, TEXTS)
    expected = reference(rows)
    engine = Engine(encoder, head, target=target)
    alone = np.concatenate([engine([row]) for row in rows])
    merged = np.concatenate([engine(rows[i : i + 8]) for i in range(0, len(rows), 8)])
    if description.task is Task.EMBEDDING:
        cosines = _cosines(alone, expected.output)
    else:
        firsts = np.stack([engine.tokens([row])[0] for row in rows])
        cosines = _cosines(firsts, expected.first_tokens)
    if description.task is Task.EMBEDDING:
        # Allowed differences are stated for vectors of length 1, whatever length the model's have.
        alone, merged, wanted = (_units(vectors) for vectors in (alone, merged, expected.output))
    else:
        wanted = expected.output
    result = Verification(
        texts=len(rows),
        tokens=sum(len(row.ids) for row in rows),
        max_difference=float(np.abs(alone - wanted).max()),
        mean_cosine=float(cosines.mean()),
        min_cosine=float(cosines.min()),
        max_merged_difference=float(np.abs(alone - merged).max()),
    )
    _judge(description, result)
    return result


def _judge(description: Description, result: Verification) -> None:
    embedding = description.task is Task.EMBEDDING
    allowed = MAX_DIFFERENCE_FP32 if embedding else MAX_SCORE_DIFFERENCE_FP32
    problems = []
    if not np.isfinite(result.max_difference):
        problems.append("the graphs return numbers that are not finite")
    if description.precision is Precision.FP32 and result.max_difference > allowed:
        problems.append(f"largest difference {result.max_difference:.1e}, allowed {allowed:.0e}")
    needed = MIN_MEAN_COSINE.get(description.precision, 0.0)
    if result.mean_cosine < needed:
        problems.append(f"mean cosine {result.mean_cosine:.4f}, needed {needed} (use --precision fp32)")
    if result.max_merged_difference > MAX_MERGED_DIFFERENCE:
        problems.append(f"merging changes a vector by {result.max_merged_difference:.1e}")
    if problems:
        message = f"{description.name} is not published, it differs from its PyTorch reference: {'; '.join(problems)}"
        raise VerificationError(message)


def _units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / norms, np.float32)
