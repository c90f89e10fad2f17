"""Jobs, into which every dialect turns its requests, and the answers of backends to them.

An option that is None is left to the settings or to the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np
from conch_contract import RERANKERS, Task, Truncate
from numpy.typing import NDArray
from typing_extensions import TypeIs

Given = TypeVar("Given")
Vectors = NDArray[np.float32]
Texts = list[str] | list[list[int]]
"""Texts, or rows of token ids that are taken as they are."""

RERANKING = frozenset({*RERANKERS, Task.RERANK})
"""Tasks of models that rank documents."""

InputType = Literal[
    "query",
    "document",
    "passage",
    "search_query",
    "search_document",
    "retrieval.query",
    "retrieval.passage",
    "code.query",
    "code.passage",
    "classification",
    "clustering",
    "separation",
    "text-matching",
]
"""Purposes of texts, as all dialects call them."""


@dataclass(frozen=True, slots=True)
class EmbeddingJob:
    """Texts, and what is to be done with them.

    Attributes:
        normalize: whether vectors have length 1; false is refused for models whose vectors always have.
        instruction: what the query is for, in the caller's words, for models whose prompt has a place for it.
        expect_space: vector space that the answer must be in; None for any.
        counted: whether CONCH_MAX_INPUTS is the most texts; otherwise it is as many as may be in flight.
    """

    texts: Texts
    model: str | None = None
    prompt_name: str | None = None
    input_type: InputType | None = None
    dimensions: int | None = None
    truncate: Truncate | None = None
    normalize: bool | None = True
    counted: bool = True
    instruction: str | None = None
    expect_space: str | None = None


@dataclass(frozen=True, slots=True)
class RerankJob:
    """A query and documents; `top_n` None returns all.

    Attributes:
        instruction: what to look for, in the caller's words, for rerankers that read it.
        document_tokens: most tokens of a document; what a longer one has beyond is not read.
        document_parts: most parts that a document is read in if the model cannot read it at once; the best one counts.
    """

    query: str
    documents: list[str]
    model: str | None = None
    top_n: int | None = None
    raw_scores: bool = False
    truncate: Truncate | None = None
    document_tokens: int | None = None
    document_parts: int = 1
    instruction: str | None = None


@dataclass(frozen=True, slots=True)
class PairJob:
    """Pairs of a query and a document; `instruction` is as for a `RerankJob`."""

    pairs: list[tuple[str, str]]
    model: str | None = None
    raw_scores: bool = False
    truncate: Truncate | None = None
    instruction: str | None = None


@dataclass(frozen=True, slots=True)
class ClassificationJob:
    """Texts, or pairs of texts, that a classifier has labels for."""

    inputs: list[str | tuple[str, str]]
    model: str | None = None
    raw_scores: bool = False
    truncate: Truncate | None = None

    @property
    def rows(self) -> list[str]:
        """Each input as one text, to tell how long it is."""
        # Joining a text itself would make a list of its characters first.
        return [each if isinstance(each, str) else each[0] + each[1] for each in self.inputs]


class Prediction(NamedTuple):
    """A label and its score."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Answer(Generic[Given]):
    """The answer of a backend to a job.

    Attributes:
        given: vectors, a ranking or predictions.
        tokens: real tokens that were computed, special ones included.
        row_tokens: the same for each text; empty where the backend counts them together only.
        tokenize_s: seconds spent on tokenising; None where the backend does not tell.
        cache_hits: how many of the texts were remembered; None without a cache.
        notes: what the caller should know of how it was computed.
        truncated: how many of the texts that were computed lost tokens, as far as the backend tells.
    """

    given: Given
    tokens: int
    row_tokens: Sequence[int] = ()
    tokenize_s: float | None = None
    cache_hits: int | None = None
    notes: tuple[str, ...] = ()
    truncated: int = 0


def is_text(texts: Texts) -> TypeIs[list[str]]:
    """Tell texts from rows of token ids."""
    return isinstance(texts[0], str)
