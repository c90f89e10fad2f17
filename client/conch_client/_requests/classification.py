"""The job that classifies: a score for each label of every input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from conch_contract import Truncate, label_scores

from conch_client._errors import Item
from conch_client._inputs import check_truncate, is_heavy
from conch_client._requests.job import Job, refuse_rows
from conch_client._tokenization.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_contract import ModelInfo
    from numpy.typing import NDArray
    from tritonclient.grpc import service_pb2 as pb

    from conch_client._requests.job import LoadedModel
    from conch_client._tokenization.steps import Steps


class Classification(NamedTuple):
    """The scores of a classifier for some inputs.

    Attributes:
        labels: In the order of the scores' columns.
        scores: float32 [n, labels].
        tokens: Tokens that the server computed for it.
        truncated: Indices of the inputs that lost tokens.
    """

    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    tokens: int
    truncated: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ClassificationQuestion:
    """Inputs and options of a classification; see ``Client.classify``."""

    inputs: list[str | tuple[str, str]]
    raw_scores: bool
    truncate: Truncate

    def __post_init__(self) -> None:
        check_truncate(self.truncate)

    @property
    def heavy(self) -> bool:
        """Whether tokenising it takes long enough to be kept off an event loop."""
        return is_heavy([text for each in self.inputs for text in ([each] if isinstance(each, str) else each)])


class ClassificationJob(Job[Classification]):
    """Every row is a text, or the two texts of a pair together."""

    def __init__(self, model: ModelInfo, question: ClassificationQuestion, rows: Rows) -> None:
        super().__init__(model, rows)
        self._raw_scores = question.raw_scores

    @classmethod
    def prepare(cls, model: LoadedModel, question: ClassificationQuestion) -> Steps[ClassificationJob]:
        """The job for this question."""
        return cls(model.info, question, (yield from _rows(model, question)))

    def result(self, responses: Sequence[pb.ModelInferResponse]) -> Classification:
        """The scores, in the order of the inputs."""
        labels = self._model.labels or ()
        logits = self._output(responses, len(labels))
        refuse_rows(np.isnan(logits).any(axis=1))
        scores = logits if self._raw_scores else label_scores(logits, self._model.activation or "identity")
        return Classification(labels, scores, int(self._rows.lengths.sum()), self._rows.truncated)


def _rows(model: LoadedModel, question: ClassificationQuestion) -> Steps[Rows]:
    """Token rows of the inputs; single texts are tokenised together, and so are pairs with the same first text."""
    groups: dict[str | None, list[int]] = {}
    for place, each in enumerate(question.inputs):
        groups.setdefault(None if isinstance(each, str) else each[0], []).append(place)
    ids: list[list[int]] = [[]] * len(question.inputs)
    segments, truncated = ids.copy(), []
    for first, places in groups.items():
        rows = yield from _group(model, question, first, places)
        truncated += [places[row] for row in rows.truncated]
        kinds = rows.segments if rows.segments is not None else np.zeros_like(rows.ids)
        split = np.split(kinds, np.cumsum(rows.lengths)[:-1])
        for place, row, kind in zip(places, rows.tolist(), split, strict=True):
            ids[place], segments[place] = row, kind.tolist()
    return Rows.of(ids, segments, truncated=sorted(truncated))


def _group(model: LoadedModel, question: ClassificationQuestion, first: str | None, places: list[int]) -> Steps[Rows]:
    """Token rows of the inputs at these places: single texts, or pairs with this first text."""
    prompt = model.info.prompt_text()
    limits: Any = {"max_length": model.info.max_length, "truncate": question.truncate, "prompt": prompt}
    inputs = [question.inputs[place] for place in places]

    def item(row: int, _: str = "") -> Item:
        return Item.of("inputs", places[row])

    if first is None:
        texts = [prompt + text for text in inputs if isinstance(text, str)]
        return model.tokenizer.encode(texts, **limits, item=item)
    seconds = [pair[1] for pair in inputs]
    return model.tokenizer.encode_pairs(prompt + first, seconds, **limits, item=item)
