"""Two models on the same texts: whether they find the same neighbours, how scores shift, and what each costs."""

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

    from numpy.typing import NDArray

    from conch_export.migration.in_process import Embedded
    from conch_export.progress import Progress

    Floats = NDArray[np.float32]

FEWEST_TEXTS = 5 * NEIGHBOURS
_SCORED_TEXTS = 256
"""Texts whose scores with all others are ranked: enough for three digits, and a matrix that fits into memory."""
_FEWEST_PAIRS = 20
"""On either side of a threshold, of which nothing is said otherwise."""
_MILLION = 1_000_000
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Side:
    """One model.

    Attributes:
        name: of the public model.
        space_id: its vector space; None where it states none.
        prompt_name: of the prompt that was put before each text; empty for none.
        precision: of its matrix products.
        max_length: tokens at which texts are cut.
        dimension: length of its vectors.
        tokens: of all texts.
        processor_s_per_million_texts: seconds of one core for as many texts like these.
        peak_bytes: of an instance of its encoder on a text of `max_length` tokens; None for a GPU's.
        disk_bytes: of all graphs that were exported with it, and of its tokenizer.
        index_bytes_per_million_texts: of their vectors in float32.
        score_mean: of pairs of different texts.
        score_spread: standard deviation of the same.
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
    """A score of the old model in terms of the new one's.

    Attributes:
        old: a pair of texts counts from this score on.
        new: as many pairs count from this score of the new model on.
        share: of all pairs.
        agreement: share of the old model's pairs that are among the new one's.
    """

    old: float
    new: float
    share: float
    agreement: float


@dataclass(frozen=True)
class Comparison:
    """What two models have in common on the same texts.

    Attributes:
        texts: how many.
        old: the model that made the index.
        new: the model that is to replace it.
        neighbours_at_10: share of a text's ten nearest neighbours by the old model that are among those by the new one.
        nearest: share of texts with the same nearest neighbour.
        rank_correlation: of the scores of a text with all others (Spearman), mean over texts.
        thresholds: those that enough pairs reach and miss.
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
        """Whether both answer in one vector space, so that an index of the one serves the other."""
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
        new: name of the one that is to replace it.
        repository: Triton's model repository, which has both.
        texts: like those of the index; equal ones count once.
        progress: told about every step, and how far it is.
        old_prompt: name of a prompt of the old model; None for its default, "" for none.
        new_prompt: the same of the new one.
        thresholds: scores of the old model to translate.

    Raises:
        UnsupportedError: a model gives no single vector for a text, or there are too few texts.
        SourceError: a model is not in the repository, or damaged.
        ExportError: a graph could not be run.
    """
    texts = distinct(texts, FEWEST_TEXTS)
    models = InProcess(repository, old, old_prompt), InProcess(repository, new, new_prompt)
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


def distinct(texts: Sequence[str], fewest: int) -> list[str]:
    """The texts without repetitions and empty ones.

    Raises:
        UnsupportedError: there are fewer than that.
    """
    found = list(dict.fromkeys(text for text in texts if text.strip()))
    if len(found) < fewest:
        msg = (
            f"{len(found)} different texts are too few to say anything: give {fewest} or more, like those of the index"
        )
        raise UnsupportedError(msg)
    return found


def _scores(vectors: Floats) -> Floats:
    """Scores of some texts, evenly chosen, with all others: [at most `_SCORED_TEXTS`, texts - 1]."""
    chosen = np.unique(np.linspace(0, len(vectors) - 1, _SCORED_TEXTS).round().astype(int))
    scores = vectors[chosen] @ vectors.T
    others = np.ones(scores.shape, np.bool_)
    others[np.arange(len(chosen)), chosen] = False
    return np.asarray(scores[others].reshape(len(chosen), -1), np.float32)


def _translated(old: Floats, new: Floats, thresholds: Sequence[float]) -> tuple[Threshold, ...]:
    """The score of the new model that as many pairs reach, for each threshold that enough pairs reach and miss."""
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
