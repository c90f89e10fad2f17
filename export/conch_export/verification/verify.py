"""Comparing exported graphs with their authors' libraries, on the same texts, before anything is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from conch_contract import Task, encoder_name

from conch_export.errors import VerificationError
from conch_export.model.parts import parts
from conch_export.onnx.encoder import Target
from conch_export.onnx.engine import EncoderGraph, HeadGraph, can_run
from conch_export.verification.agreement import Verification, score_agreement, units, vector_agreement, widened
from conch_export.verification.rows import Row, Rows
from conch_export.verification.samples import Item, Role, verification_sample
from conch_export.verification.standards import judge

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from conch_export.model.description import Description, Overrides
    from conch_export.model.parts import Part
    from conch_export.verification.reference import Reference

    Floats = NDArray[np.float32]

_GRAPH = "1/model.onnx"
_RERANKERS = (Task.CROSS_ENCODER, Task.LATE_INTERACTION)
_UNIT_VECTORS = (Task.EMBEDDING, Task.MULTI_VECTOR)
_MERGED_ROWS = 8


def verify(
    description: Description, overrides: Overrides, folder: Path, target: Target = Target.CPU
) -> dict[str, Verification]:
    """Measure what the exported graphs answer against what the authors' libraries do.

    Args:
        description: of what was exported.
        overrides: what the operator settled, which the libraries are told too.
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
            "on a machine with a GPU and onnxruntime-gpu"
        )
        raise VerificationError(message)
    # Imported late: everything but a verification does without PyTorch, which takes seconds to load.
    from conch_export.verification import reference as authors  # noqa: PLC0415

    rows_of = Rows(description)
    sample = verification_sample(description, rows_of.added_tokens)
    reference = authors.Reference(description, overrides)
    encoded = _Encoded(EncoderGraph(folder / encoder_name(description.name) / _GRAPH, target=target))
    measured = {}
    for part in parts(description):
        items = sample.items(description, part)
        for item in [*items, *sample.long_items(description, part)]:
            _compare_tokens(description, item, rows_of(item).ids, reference)
        rows = [rows_of(item) for item in items]
        alone, merged = encoded.answers(part, folder, items, rows)
        measured[part.name] = Verification(
            reference=reference.name,
            texts=len(items),
            tokens=sum(len(row.ids) for row in rows),
            max_merged_difference=_merged_difference(part, alone, merged),
            **_agreement(part, alone, reference.answers(part, items), queries=len(sample.queries)),
        )
        judge(description, part, measured[part.name])
    return measured


def merging(description: Description, folder: Path, target: Target = Target.CPU) -> dict[str, float]:
    """By public model, the largest |difference| between a text alone and the same text merged with others.

    For the arguments see `verify`; nothing but the graphs and the tokenizer is needed.
    """
    rows_of = Rows(description)
    sample = verification_sample(description, rows_of.added_tokens)
    encoded = _Encoded(EncoderGraph(folder / encoder_name(description.name) / _GRAPH, target=target))
    differences = {}
    for part in parts(description):
        items = sample.items(description, part)
        alone, merged = encoded.answers(part, folder, items, list(map(rows_of, items)))
        differences[part.name] = _merged_difference(part, alone, merged)
    return differences


def _compare_tokens(description: Description, item: Item, ids: list[int], reference: Reference) -> None:
    """Refuse a tokenizer.json whose tokens are not those that the authors' library computes."""
    expected = reference.ids(item)
    if ids == expected:
        return
    at = next((i for i, pair in enumerate(zip(ids, expected, strict=False)) if pair[0] != pair[1]), "the end")
    text = " + ".join(filter(None, [f"{item.query:.40}", f"{item.text:.40}"]))
    message = (
        f"{description.name} is not published: of the text {text!r} clients would send {len(ids)} tokens, and "
        f"{reference.name} computes {len(expected)}, others from place {at} on. tokenizer.json alone does not do what "
        "the checkpoint's other files say: write it anew with AutoTokenizer.from_pretrained(FOLDER)"
        ".save_pretrained(FOLDER), or if it is the length that differs state --max-length"
    )
    raise VerificationError(message)


class _Encoded:
    """The token vectors of rows, each computed alone and among others, and what heads make of them."""

    def __init__(self, encoder: EncoderGraph) -> None:
        self._encoder = encoder
        self._alone: dict[tuple[int, ...], Floats] = {}

    def answers(self, part: Part, folder: Path, items: Sequence[Item], rows: list[Row]) -> tuple[Floats, Floats]:
        """What the part answers to every row alone and among others, as `reference.Reference.answers` has it."""
        if part.task is Task.LATE_INTERACTION:
            return self._late_interaction(folder / f"{part.step}" / _GRAPH, items, rows)
        groups = [rows[i : i + _MERGED_ROWS] for i in range(0, len(rows), _MERGED_ROWS)]
        alone, merged = list(map(self._one, rows)), list(map(self._encoder, groups))
        if part.step is not None:
            head = HeadGraph(folder / part.step / _GRAPH)
            alone = [_answer(part, head, [row], tokens) for row, tokens in zip(rows, alone, strict=True)]
            merged = [_answer(part, head, group, tokens) for group, tokens in zip(groups, merged, strict=True)]
        width = max(answer.shape[1] for answer in (*alone, *merged))
        return _joined(alone, width), _joined(merged, width)

    def _late_interaction(self, graph: Path, items: Sequence[Item], rows: list[Row]) -> tuple[Floats, Floats]:
        head = HeadGraph(graph)
        queries = [row for item, row in zip(items, rows, strict=True) if item.role is Role.QUERY]
        documents = rows[len(queries) :]
        together = np.concatenate(
            [self._encoder(documents[i : i + _MERGED_ROWS]) for i in range(0, len(documents), _MERGED_ROWS)]
        )
        alone, merged = [], []
        for query in queries:
            asked = self._one(query)
            for document in documents:
                tokens = np.concatenate([asked, self._one(document)])
                alone.append(head([query, document], tokens)["score"][1:])
            merged.append(head([query, *documents], np.concatenate([asked, together]))["score"][1:])
        return np.concatenate(alone), np.concatenate(merged)

    def _one(self, row: Row) -> Floats:
        """FP32 [tokens, hidden] of a row by itself."""
        key = (*row.ids, -1, *row.types, -1, row.unseen)
        if key not in self._alone:
            self._alone[key] = self._encoder([row])
        return self._alone[key]


def _answer(part: Part, head: HeadGraph, rows: list[Row], tokens: Floats) -> Floats:
    outputs = head(rows, tokens)
    if part.task is not Task.SPARSE:
        return next(iter(outputs.values()))
    dense = np.zeros((len(rows), int(outputs["indices"].max()) + 1), np.float32)
    np.put_along_axis(dense, outputs["indices"].astype(np.int64), outputs["weights"], axis=1)
    return dense


def _joined(answers: list[Floats], width: int) -> Floats:
    return np.concatenate([widened(answer, width) for answer in answers])


def _agreement(part: Part, found: Floats, expected: Floats, queries: int) -> dict[str, float]:
    width = max(found.shape[1], expected.shape[1])
    found, expected = widened(found, width), widened(expected, width)
    if part.task in _RERANKERS:
        agreement = score_agreement(found.reshape(queries, -1), expected.reshape(queries, -1))
    else:
        agreement = vector_agreement(found, expected, centred=part.task is not Task.SPARSE)
    if part.task in _UNIT_VECTORS:
        # Allowed differences are stated for vectors of length 1, whatever length the model's have.
        found, expected = units(found), units(expected)
    return agreement | {"max_difference": float(np.abs(found - expected).max())}


def _merged_difference(part: Part, alone: Floats, merged: Floats) -> float:
    if part.task in _UNIT_VECTORS:
        alone, merged = units(alone), units(merged)
    return float(np.abs(alone - merged).max())
