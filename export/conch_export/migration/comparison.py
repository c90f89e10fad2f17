"""Compares two models on the same texts: nearest neighbours, scores, and costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conch_export.errors import UnsupportedError
from conch_export.migration.in_process import InProcess
from conch_export.migration.neighbours import NEIGHBOURS, compared, nearest, recall
from conch_export.model.description import Target
from conch_export.planning.peak import measured_peak
from conch_export.progress import silent
from conch_export.triton.repository import owned
from conch_export.verification.agreement import score_agreement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from conch_export.migration.in_process import Embedded
    from conch_export.migration.neighbours import Floats
    from conch_export.progress import Progress

FEWEST_TEXTS = 5 * NEIGHBOURS
_SCORED_TEXTS = 256
"""Texts whose scores with all others are ranked; precise to three digits, and the matrix fits into memory."""
_FEWEST_PAIRS = 20
"""Least pairs on either side of a threshold; with fewer, the threshold is left out."""
_MILLION = 1_000_000
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Side:
    """One of the two models.

    Attributes:
        name: name of the public model.
        space_id: its vector space; None if it states none.
        prompt_name: name of the prompt before each text; empty for none.
        precision: number format of its matrix products.
        max_length: tokens at which texts are truncated.
        dimension: length of its vectors.
        tokens: tokens of all texts.
        processor_s_per_million_texts: seconds of one core for a million texts like these.
        peak_bytes: peak memory of an instance of its encoder on a text of `max_length` tokens; None on a GPU.
        disk_bytes: size of all graphs that were exported with it, and of its tokenizer.
        index_bytes_per_million_texts: size of a million vectors in float32.
        score_mean: mean score of pairs of different texts.
        score_spread: standard deviation of these scores.
    """

    name: str
    space_id: str | None
    prompt_name: str
    precision: str
    max_length: int
    dimension: int
    tokens: int
    processor_s_per_million_texts: float
    peak_bytes: int | None
    disk_bytes: int
    index_bytes_per_million_texts: int
    score_mean: float
    score_spread: float


@dataclass(frozen=True)
class Threshold:
    """A threshold of the old model's scores, translated to the new model.

    Attributes:
        old: least score of the old model.
        new: least score of the new model that as many pairs reach.
        share: share of all pairs that reach it.
        agreement: share of the pairs that reach `old` that also reach `new`.
    """

    old: float
    new: float
    share: float
    agreement: float


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        texts: number of texts.
        old: the model that made the index.
        new: the model that is to replace it.
        neighbours_at_10: share of the ten nearest neighbours by the old model that are also those by the new one.
        nearest: share of texts with the same nearest neighbour.
        rank_correlation: Spearman's correlation of the scores of a text with all others, mean over texts.
        thresholds: those that enough pairs reach and enough miss.
    """

    texts: int
    old: Side
    new: Side
    neighbours_at_10: float
    nearest: float
    rank_correlation: float
    thresholds: tuple[Threshold, ...]

    @property
    def same_space(self) -> bool:
        """Whether both have the same vector space, so that one index serves both."""
        return self.old.space_id is not None and self.old.space_id == self.new.space_id

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "same_space": self.same_space}


def compare(
    old: str,
    new: str,
    repository: Path,
    texts: Sequence[str],
    progress: Progress = silent,
    *,
    old_prompt: str | None = None,
    new_prompt: str | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Comparison:
    """Compare two published embedding models on texts; nothing is written.

    Args:
        old: name of the public model that made the index.
        new: name of the public model that is to replace it.
        repository: Triton's model repository, which has both.
        texts: texts like those of the index; equal ones count once.
        progress: receives every step and its progress.
        old_prompt: name of a prompt of the old model; None for its default, "" for none.
        new_prompt: name of a prompt of the new model; None for its default, "" for none.
        thresholds: scores of the old model to translate.

    Raises:
        UnsupportedError: a model gives no single vector for a text, or there are too few texts.
        SourceError: a model is not in the repository, or damaged.
        ExportError: a graph could not be run.
    """
    models = InProcess(repository, old, old_prompt), InProcess(repository, new, new_prompt)
    texts = distinct(texts, FEWEST_TEXTS, models)
    embedded = [model.embed(texts, progress) for model in models]
    progress("comparing neighbours and scores")
    vectors = [compared(each.vectors, model.info) for model, each in zip(models, embedded, strict=True)]
    own = np.arange(len(texts))
    neighbours = [nearest(each, each, own) for each in vectors]
    scores = _scores(vectors[0]), _scores(vectors[1])
    progress("measuring memory")
    sides = [_side(repository, *each) for each in zip(models, embedded, scores, strict=True)]
    return Comparison(
        texts=len(texts),
        old=sides[0],
        new=sides[1],
        neighbours_at_10=recall(neighbours[1], neighbours[0]),
        nearest=float((neighbours[1][:, 0] == neighbours[0][:, 0]).mean()),
        rank_correlation=score_agreement(scores[1], scores[0])["rank_correlation"],
        thresholds=_translated(*scores, thresholds),
    )


def distinct(texts: Sequence[str], fewest: int, models: Sequence[InProcess] = ()) -> list[str]:
    """Return the texts without repeated and blank ones, and without those of which a model reads no token.

    Raises:
        UnsupportedError: there are fewer than `fewest`.
    """
    different = dict.fromkeys(text for text in texts if text.strip())
    found = [text for text in different if all(model.reads(text) for model in models)]
    if len(found) < fewest:
        msg = f"{len(found)} different texts are too few: give {fewest} or more, like those of the index"
        raise UnsupportedError(msg)
    return found


def _scores(vectors: Floats) -> Floats:
    """Return scores of evenly chosen texts with all others: [at most `_SCORED_TEXTS`, texts - 1]."""
    chosen = np.unique(np.linspace(0, len(vectors) - 1, _SCORED_TEXTS).round().astype(int))
    scores = vectors[chosen] @ vectors.T
    others = np.ones(scores.shape, np.bool_)
    others[np.arange(len(chosen)), chosen] = False
    return np.asarray(scores[others].reshape(len(chosen), -1), np.float32)


def _translated(old: Floats, new: Floats, thresholds: Sequence[float]) -> tuple[Threshold, ...]:
    """Translate each threshold that enough pairs reach and enough miss."""
    found = []
    for threshold in thresholds:
        passing = old >= threshold
        count = int(passing.sum())
        if _FEWEST_PAIRS <= count <= old.size - _FEWEST_PAIRS:
            other = float(np.partition(new.ravel(), -count)[-count])
            found.append(Threshold(threshold, other, count / old.size, float((new[passing] >= other).mean())))
    return tuple(found)


def _side(repository: Path, model: InProcess, embedded: Embedded, scores: Floats) -> Side:
    info, count = model.info, len(embedded.vectors)
    base = info.base or info.name
    graphs = [repository / name / "1" for name in owned(repository, base)]
    files = (path for folder in graphs for path in folder.rglob("*") if path.is_file())
    return Side(
        name=info.name,
        space_id=info.space_id,
        prompt_name=model.prompt_name,
        precision=info.precision,
        max_length=info.max_length,
        dimension=info.dimension or 0,
        tokens=embedded.tokens,
        processor_s_per_million_texts=embedded.processor_s / count * _MILLION,
        peak_bytes=measured_peak(model.encoder, info.max_length) if model.target is Target.CPU else None,
        disk_bytes=sum(path.stat().st_size for path in files),
        index_bytes_per_million_texts=embedded.vectors.itemsize * (info.dimension or 0) * _MILLION,
        score_mean=float(scores.mean()),
        score_spread=float(scores.std()),
    )
