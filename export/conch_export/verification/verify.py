"""Comparing exported graphs with their authors' libraries, on the same texts, before anything is published.

For every public model: texts → the authors' answers and ours → how far they agree → the standard of the precision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from conch_contract import KnownAnswer, Task, encoder_name

from conch_export.errors import VerificationError
from conch_export.freed import give_back
from conch_export.model.description import Target
from conch_export.model.public_models import sides
from conch_export.onnx.engine import EncoderGraph, HeadGraph, QueryGraph, can_run
from conch_export.progress import counted, silent
from conch_export.triton.repository import graph_path
from conch_export.verification.agreement import Verification, agreement, difference, stacked
from conch_export.verification.rows import Rows, thirds
from conch_export.verification.samples import KNOWN_TEXT, Role, verification_sample
from conch_export.verification.standards import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from conch_export.model.description import Description
    from conch_export.model.public_models import PublicModel
    from conch_export.onnx.engine import Row
    from conch_export.progress import Progress
    from conch_export.verification.agreement import Floats
    from conch_export.verification.samples import Item

_MERGED_ROWS = 8


class Authors(Protocol):
    """The reference that graphs are compared with; see `reference.Reference`."""

    name: str

    def ids(self, item: Item, /) -> list[int]:
        """The tokens of an item."""

    def computed_by(self, model: PublicModel, /) -> str:
        """Return which library computes a public model's answers."""

    def answers(self, model: PublicModel, items: Iterable[Item], /) -> Floats:
        """A public model's answers to its items."""


@dataclass(frozen=True)
class Expected:
    """The authors' answers of a public model.

    Attributes:
        reference: who computed them.
        items: what they are the answers to.
        rows: the items as clients send them.
        queries: of those that rank the others, or a pair with each.
        answers: as `Authors.answers` has them.
    """

    reference: str
    items: list[Item]
    rows: list[Row]
    queries: int
    answers: Floats


def expectations(
    description: Description, load: Callable[[], Authors], progress: Progress = silent
) -> dict[str, Expected]:
    """The authors' answers of all public models. Nothing that was exported is needed.

    Args:
        description: of what is exported.
        load: the authors' libraries with the checkpoint, which take as much memory as its weights in fp32. They are
            gone when this returns.
        progress: told how many items are computed.

    Raises:
        VerificationError: the tokens of clients are not those that the authors' libraries compute.
    """
    give_back()
    progress("loading the reference")
    expected = _expected(description, load(), progress)
    give_back()
    return expected


def _expected(description: Description, reference: Authors, progress: Progress) -> dict[str, Expected]:
    rows_of, expected = Rows(description), {}
    sample = verification_sample(description, rows_of.added_tokens)
    for model in sides(description):
        items = rows_of.items(sample, model)
        rows = list(map(rows_of, items))
        long = sample.long_items(description, model)
        for item, row in zip([*items, *long], [*rows, *map(rows_of, long)], strict=True):
            _compare_tokens(description, item, row.ids, reference)
        computed = counted(progress, "computing the reference", items, len(items))
        answers, name = reference.answers(model, computed), reference.computed_by(model)
        expected[model.name] = Expected(name, items, rows, len(sample.queries), answers)
    return expected


def known_answer(description: Description, expected: Mapping[str, Expected]) -> KnownAnswer | None:
    """The authors' vector of one of the texts, for the report; None for models that do not give one vector."""
    if description.task is not Task.EMBEDDING:
        return None
    told = expected[description.name]
    place = [item.text for item in told.items].index(KNOWN_TEXT)
    return KnownAnswer(KNOWN_TEXT, np.asarray(told.answers[place], np.float32))


def verify(
    description: Description,
    expected: Mapping[str, Expected],
    folder: Path,
    target: Target = Target.CPU,
    progress: Progress = silent,
) -> dict[str, Verification]:
    """Compare the answers of exported graphs with those of the authors' libraries.

    Args:
        description: of what was exported.
        expected: the authors' answers, by public model.
        folder: holds its Triton models.
        target: what the encoder runs on.
        progress: told how many items are computed.

    Returns:
        The measurements, by public model.

    Raises:
        VerificationError: they differ by more than the precision allows, or cannot be run here.
    """
    refuse_unverifiable(description, target)
    graphs, measured = _Graphs(description, folder, target, progress), {}
    for model in sides(description):
        told = expected[model.name]
        alone, merged = graphs.answers(model, told.items, told.rows)
        measured[model.name] = Verification(
            reference=told.reference,
            texts=len(told.items),
            tokens=sum(len(row.ids) for row in told.rows),
            max_difference=difference(model.task, alone, told.answers),
            max_merged_difference=difference(model.task, alone, merged),
            **agreement(model.task, alone, told.answers, queries=told.queries),
        )
        judge(description.precision, model, measured[model.name])
    return measured


def refuse_unverifiable(description: Description, target: Target) -> None:
    """Refuse to make graphs that cannot be run here.

    Raises:
        VerificationError: they are for a GPU, and there is none.
    """
    if not can_run(target):
        msg = (
            f"{description.name} is not published: nothing here runs {target.value} graphs to verify them. Export it "
            "on a machine with a GPU and onnxruntime-gpu"
        )
        raise VerificationError(msg)


def merging(description: Description, folder: Path, target: Target = Target.CPU) -> dict[str, float]:
    """By public model, the largest |difference| between a text alone and the same text merged with others.

    For the arguments see `verify`; nothing but the graphs and the tokenizer is needed.
    """
    graphs, rows_of, differences = _Graphs(description, folder, target), Rows(description), {}
    sample = verification_sample(description, rows_of.added_tokens)
    for model in sides(description):
        items = rows_of.items(sample, model)
        alone, merged = graphs.answers(model, items, list(map(rows_of, items)))
        differences[model.name] = difference(model.task, alone, merged)
    return differences


def _compare_tokens(description: Description, item: Item, ids: list[int], reference: Authors) -> None:
    """Refuse a tokenizer.json whose tokens are not those that the authors' library computes."""
    expected = reference.ids(item)
    if ids == expected:
        return
    at = next((i for i, pair in enumerate(zip(ids, expected, strict=False)) if pair[0] != pair[1]), "the end")
    text = " + ".join(filter(None, [f"{item.query:.40}", f"{item.text:.40}"]))
    msg = (
        f"{description.name} is not published: of the text {text!r} clients would send {len(ids)} tokens, and "
        f"{reference.name} computes {len(expected)}, others from place {at} on. tokenizer.json alone does not do what "
        "the checkpoint's other files say: write it anew with AutoTokenizer.from_pretrained(FOLDER)"
        ".save_pretrained(FOLDER), or if it is the length that differs state --max-length"
    )
    raise VerificationError(msg)


class _Graphs:
    """The exported graphs of a description, which answer every item alone and among others."""

    def __init__(self, description: Description, folder: Path, target: Target, progress: Progress = silent) -> None:
        self._folder, self._progress = folder, progress
        self._encoder = EncoderGraph(graph_path(folder, encoder_name(description.name)), target=target)
        self._known: dict[tuple[tuple[int, ...], ...], Floats] = {}

    def answers(self, model: PublicModel, items: list[Item], rows: list[Row]) -> tuple[Floats, Floats]:
        """A public model's answers to all rows alone and among others, as `reference.Reference.answers` has them.

        Args:
            model: the public model.
            items: what the rows are of.
            rows: as clients send them.
        """
        if model.task is Task.LATE_CHUNKING:
            rows = [replace(row, chunk_ends=thirds(len(row.ids))) for row in rows]
        head = HeadGraph(graph_path(self._folder, model.head)) if model.head is not None else None
        if head is not None and model.task is Task.LATE_INTERACTION:
            queries = [row for item, row in zip(items, rows, strict=True) if item.role is Role.QUERY]
            return self._late_interaction(head, queries, rows[len(queries) :])
        if model.queries is not None:
            look_up = QueryGraph(graph_path(self._folder, model.queries))
            alone = [_dense(look_up([row])) for row in rows]
            merged = [_dense(look_up(group)) for group in _groups(rows)]
            return stacked(alone), stacked(merged)
        alone = [self._encoded([row]) for row in counted(self._progress, "verifying", rows, len(rows))]
        groups = _groups(rows)
        counted_groups = counted(self._progress, "verifying merged texts", groups, len(groups))
        merged = [self._encoded(group) for group in counted_groups]
        if head is not None:
            alone = [_answer(model, head, [row], tokens) for row, tokens in zip(rows, alone, strict=True)]
            merged = [_answer(model, head, group, tokens) for group, tokens in zip(groups, merged, strict=True)]
        return stacked(alone), stacked(merged)

    def _late_interaction(self, head: HeadGraph, queries: list[Row], documents: list[Row]) -> tuple[Floats, Floats]:
        together = np.concatenate(list(map(self._encoded, _groups(documents))))
        alone, merged = [], []
        for query in queries:
            tokens = self._encoded([query])
            for document in documents:
                pair = np.concatenate([tokens, self._encoded([document])])
                # Without row 0, which is the query's score with itself.
                alone.append(head([query, document], pair)["score"][1:])
            merged.append(head([query, *documents], np.concatenate([tokens, together]))["score"][1:])
        return np.concatenate(alone), np.concatenate(merged)

    def _encoded(self, rows: list[Row]) -> Floats:
        """FP32 [tokens of all rows, hidden] of rows in one run, which is the same for all public models."""
        # No id is -1, so different rows cannot have the same key.
        key = tuple((*row.ids, -1, *row.types, -1, row.masked) for row in rows)
        if key not in self._known:
            self._known[key] = self._encoder(rows)
        return self._known[key]


def _groups(rows: list[Row]) -> list[list[Row]]:
    return [rows[i : i + _MERGED_ROWS] for i in range(0, len(rows), _MERGED_ROWS)]


def _answer(model: PublicModel, head: HeadGraph, rows: list[Row], tokens: Floats) -> Floats:
    outputs = head(rows, tokens)
    if model.task is not Task.SPARSE:
        first: Floats = next(iter(outputs.values()))
        return first
    return _dense(outputs)


def _dense(outputs: Mapping[str, Any]) -> Floats:
    """Indices and weights [n, k] as FP32 [n, largest index + 1]; a weight of 0 that fills up changes nothing."""
    dense = np.zeros((len(outputs["indices"]), int(outputs["indices"].max()) + 1), np.float32)
    np.add.at(dense, (np.arange(len(dense))[:, None], outputs["indices"]), outputs["weights"])
    return dense
