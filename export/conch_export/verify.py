"""Comparing exported graphs with the PyTorch model they come from, on real sentences, before anything is published."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conch_export.description import Description, Precision, Task
from conch_export.engine import EncoderGraph, HeadGraph, can_run
from conch_export.errors import VerificationError
from conch_export.graphs.encoder import Target
from conch_export.parts import parts
from conch_export.rows import verification_rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from conch_export.parts import Part
    from conch_export.rows import Row

    Floats = NDArray[np.float32]

_GRAPH = "1/model.onnx"
_RERANKERS = (Task.CROSS_ENCODER, Task.LATE_INTERACTION)
_UNIT_VECTORS = (Task.EMBEDDING, Task.MULTI_VECTOR)

TEXTS = 64
MAX_DIFFERENCE_FP32 = 1e-5
MAX_SCORE_DIFFERENCE_FP32 = 1e-4
MIN_MEAN_COSINE = {Precision.INT8: 0.995, Precision.FP16: 0.999}
MIN_MEAN_COSINE_OF_PARTS = {Precision.INT8: 0.99, Precision.FP16: 0.999}
"""Of the vectors of single tokens, which no pooling evens out, and of weights of words."""
MAX_MERGED_DIFFERENCE = 1e-5
_MERGED_ROWS = 8


@dataclass(frozen=True)
class Verification:
    """What was measured of one public model.

    Attributes:
        texts: sentences compared.
        tokens: of all of them.
        max_difference: largest |difference| of a vector's number (vectors of length 1), of a weight or of a raw score.
        mean_cosine: of exported and reference vectors; for rerankers of the first token's vectors.
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


def verify(description: Description, folder: Path, target: Target = Target.CPU) -> dict[str, Verification]:
    """Measure the exported graphs against PyTorch.

    Args:
        description: of what was exported.
        folder: holds its Triton models.
        target: what the encoder runs on.

    Returns:
        What was measured, by public model.

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

    rows = verification_rows(description, TEXTS)
    expected = Reference(description)(rows)
    encoded = _Encoded(EncoderGraph(folder / f"{description.name}.encoder" / _GRAPH, target=target), rows)
    measured = {}
    for part in parts(description):
        alone, merged = encoded.answers(part, folder)
        vectors = (alone, expected.answers[part.name])
        if part.task in _RERANKERS:
            vectors = (encoded.first_tokens, expected.first_tokens)
        answers = [alone, merged, expected.answers[part.name]]
        if part.task in _UNIT_VECTORS:
            # Allowed differences are stated for vectors of length 1, whatever length the model's have.
            answers = [_units(vectors) for vectors in answers]
        measured[part.name] = _measured(rows, *answers, cosines=_cosines(*vectors))
        _judge(description, part, measured[part.name])
    return measured


def merging(description: Description, folder: Path, target: Target = Target.CPU) -> dict[str, float]:
    """By public model, the largest |difference| between a text alone and the same text merged with others.

    For the arguments see `verify`; nothing but the graphs and the tokenizer is needed.
    """
    rows = verification_rows(description, TEXTS)
    encoded = _Encoded(EncoderGraph(folder / f"{description.name}.encoder" / _GRAPH, target=target), rows)
    differences = {}
    for part in parts(description):
        answers = encoded.answers(part, folder)
        alone, merged = map(_units, answers) if part.task in _UNIT_VECTORS else answers
        differences[part.name] = float(np.abs(alone - merged).max())
    return differences


class _Encoded:
    """The token vectors of rows, each computed alone and among others, and what heads make of them."""

    def __init__(self, encoder: EncoderGraph, rows: list[Row]) -> None:
        self._rows = rows
        self._alone = [encoder([row]) for row in rows]
        self._merged = [encoder(rows[i : i + _MERGED_ROWS]) for i in range(0, len(rows), _MERGED_ROWS)]

    @property
    def first_tokens(self) -> Floats:
        """[rows, hidden]."""
        return np.stack([tokens[0] for tokens in self._alone])

    def answers(self, part: Part, folder: Path) -> tuple[Floats, Floats]:
        """What the part answers to every row alone and among others, as `reference.Expected` has it."""
        if part.step is None:
            return np.concatenate(self._alone), np.concatenate(self._merged)
        head = HeadGraph(folder / part.step / _GRAPH)
        groups = [self._rows[i : i + _MERGED_ROWS] for i in range(0, len(self._rows), _MERGED_ROWS)]
        alone = [self._answer(part, head, [row], tokens) for row, tokens in zip(self._rows, self._alone, strict=True)]
        merged = [self._answer(part, head, group, tokens) for group, tokens in zip(groups, self._merged, strict=True)]
        width = max(answer.shape[1] for answer in (*alone, *merged))
        return _joined(alone, width), _joined(merged, width)

    def _answer(self, part: Part, head: HeadGraph, rows: list[Row], tokens: Floats) -> Floats:
        if part.task is Task.LATE_INTERACTION:  # the first row of all is the query
            return head([self._rows[0], *rows], np.concatenate([self._alone[0], tokens]))["score"][1:]
        outputs = head(rows, tokens)
        if part.task is not Task.SPARSE:
            return next(iter(outputs.values()))
        dense = np.zeros((len(rows), int(outputs["indices"].max()) + 1), np.float32)
        np.put_along_axis(dense, outputs["indices"].astype(np.int64), outputs["weights"], axis=1)
        return dense


def _joined(answers: list[Floats], width: int) -> Floats:
    return np.concatenate([_widened(answer, width) for answer in answers])


def _widened(answer: Floats, width: int) -> Floats:
    return np.pad(answer, ((0, 0), (0, width - answer.shape[1])))


def _measured(rows: list[Row], alone: Floats, merged: Floats, expected: Floats, *, cosines: Floats) -> Verification:
    return Verification(
        texts=len(rows),
        tokens=sum(len(row.ids) for row in rows),
        max_difference=float(np.abs(_widened(alone, expected.shape[1]) - expected).max()),
        mean_cosine=float(cosines.mean()),
        min_cosine=float(cosines.min()),
        max_merged_difference=float(np.abs(alone - merged).max()),
    )


def _judge(description: Description, part: Part, result: Verification) -> None:
    allowed = MAX_DIFFERENCE_FP32 if part.task in _UNIT_VECTORS else MAX_SCORE_DIFFERENCE_FP32
    problems = []
    if not np.isfinite(result.max_difference):
        problems.append("the graphs return numbers that are not finite")
    if description.precision is Precision.FP32 and result.max_difference > allowed:
        problems.append(f"largest difference {result.max_difference:.1e}, allowed {allowed:.0e}")
    limits = MIN_MEAN_COSINE_OF_PARTS if part.task in (Task.MULTI_VECTOR, Task.SPARSE) else MIN_MEAN_COSINE
    needed = limits.get(description.precision, 0.0)
    if result.mean_cosine < needed:
        problems.append(f"mean cosine {result.mean_cosine:.4f}, needed {needed} (use --precision fp32)")
    if result.max_merged_difference > MAX_MERGED_DIFFERENCE:
        problems.append(f"merging changes a vector by {result.max_merged_difference:.1e}")
    if problems:
        message = f"{part.name} is not published, it differs from its PyTorch reference: {'; '.join(problems)}"
        raise VerificationError(message)


def _units(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _cosines(a: Floats, b: Floats) -> Floats:
    width = max(a.shape[1], b.shape[1])
    a, b = _widened(a, width), _widened(b, width)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    # Where both are all zeros (no word weighs anything) they agree.
    return np.asarray(np.where(norms == 0, 1.0, (a * b).sum(axis=1) / np.maximum(norms, 1e-30)), np.float32)
