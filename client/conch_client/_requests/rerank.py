"""Jobs that rank: a query and documents to a ranking."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from conch_contract import Task, Truncate

from conch_client._errors import Item, NotComputedError, ServerError
from conch_client._inputs import check_count, check_text, check_truncate
from conch_client._requests.job import Job
from conch_client._requests.plan import plan_batches
from conch_client._tokenization.late_interaction import encode_marked, marked_rows
from conch_client._transport.tensors import read_output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from conch_contract import ModelInfo
    from numpy.typing import NDArray
    from tritonclient.grpc import service_pb2 as pb

    from conch_client._requests.job import LoadedModel
    from conch_client._tokenization.rows import Rows
    from conch_client._tokenization.steps import Steps


class Ranked(NamedTuple):
    """A document's place in a ranking: its ``index`` in the list that was given, and its ``score``."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a rank
    score: float


class Ranking(list[Ranked]):
    """Documents by descending raw score; those with equal raw scores keep the order in which they were given.

    Attributes:
        tokens: Tokens that the server computed for it (the query counts once for each request it went with).
        raw_scores: What each was ranked by. A cross-encoder's is its logit: above 37 or so, sigmoids are all 1.0.
        truncated: Indices of the documents that lost tokens, or whose query did.
    """

    def __init__(
        self,
        ranked: Iterable[Ranked],
        tokens: int,
        raw_scores: Sequence[float] | None = None,
        truncated: Sequence[int] = (),
    ) -> None:
        super().__init__(ranked)
        self.tokens = tokens
        self.truncated = tuple(truncated)
        self.raw_scores = [score for _, score in self] if raw_scores is None else list(raw_scores)


@dataclass(frozen=True, slots=True)
class RerankQuestion:
    """Query, documents and options of a ranking; see ``Client.rerank``."""

    query: str
    documents: list[str]
    top_n: int | None
    raw_scores: bool
    truncate: Truncate
    instruction: str | None = None

    def __post_init__(self) -> None:
        check_count(self.top_n, "top_n")
        check_truncate(self.truncate)
        if self.instruction is not None:
            check_text(self.instruction, Item("instruction"))


class _RerankJob(Job[Ranking]):
    def __init__(
        self, model: ModelInfo, question: RerankQuestion, rows: Rows, parts: list[NDArray[np.intp]] | None = None
    ) -> None:
        super().__init__(model, rows, parts)
        self._question = question

    def _ranking(self, raw: NDArray[np.float64], scores: NDArray[np.float64], truncated: Sequence[int]) -> Ranking:
        """By ``raw``, with ``scores``."""
        refused = np.flatnonzero(np.isnan(raw)).tolist()
        if refused:
            raise NotComputedError(
                f"the model refused documents {refused}, or the query: it does not fit its tokenizer, or is damaged; "
                "export it again",
                refused,
            )
        order = np.argsort(-raw, kind="stable")[: self._question.top_n]
        tokens = sum(int(self._rows.lengths[part].sum()) for part in self.parts)
        return Ranking(map(Ranked, order.tolist(), scores[order].tolist()), tokens, raw[order].tolist(), truncated)


class LateInteractionJob(_RerankJob):
    """Row 0 of every request is the query, which the server compares the other rows with."""

    def __init__(self, model: ModelInfo, question: RerankQuestion, rows: Rows) -> None:
        query, documents = int(rows.lengths[0]), rows.lengths[1:]
        batches = plan_batches(documents, max_rows=model.max_rows, lead=query)
        super().__init__(model, question, rows, [np.append(0, batch + 1) for batch in batches])

    @classmethod
    def prepare(cls, model: LoadedModel, question: RerankQuestion) -> Steps[LateInteractionJob]:
        """The job for this question."""
        if model.info.max_rows < 2:
            raise ServerError(
                f"{model.info.name} takes one row a request, but the query is one: export it with more rows"
            )
        return cls(model.info, question, (yield from _query_and_documents(model, question)))

    def result(self, responses: Sequence[pb.ModelInferResponse]) -> Ranking:
        """The ranking."""
        scores = np.empty(len(self._rows) - 1)
        for part, response in zip(self.parts, responses, strict=True):
            scores[part[1:] - 1] = read_output(response, self._model.output, (len(part), 1))[1:, 0]
        # Row 0 is the query: what it has lost, every document is compared without.
        documents, cut = range(len(scores)), self._rows.truncated
        return self._ranking(scores, scores, documents if 0 in cut else [row - 1 for row in cut])


class CrossEncoderJob(_RerankJob):
    """Every row is the query and a document together."""

    @classmethod
    def prepare(cls, model: LoadedModel, question: RerankQuestion) -> Steps[CrossEncoderJob]:
        """The job for this question."""
        return cls(model.info, question, (yield from _pairs(model, question)))

    def result(self, responses: Sequence[pb.ModelInferResponse]) -> Ranking:
        """The ranking."""
        logits = self._output(responses, 1)[:, 0].astype(np.float64)
        scores = logits if self._question.raw_scores else _sigmoid(logits)
        return self._ranking(logits, scores, self._rows.truncated)


def rerank_job(model: LoadedModel, question: RerankQuestion) -> Steps[LateInteractionJob] | Steps[CrossEncoderJob]:
    """The job for the kind of reranker that ``model`` is."""
    model.info.instruction_text(question.instruction)  # refused where there is no place for it
    kind = CrossEncoderJob if model.info.task is Task.CROSS_ENCODER else LateInteractionJob
    return kind.prepare(model, question)


def _pairs(model: LoadedModel, question: RerankQuestion) -> Steps[Rows]:
    limits: Any = {"max_length": model.info.max_length, "truncate": question.truncate}
    template = model.info.pair_template
    if template is None:
        prompt = model.info.prompt_text()
        return model.tokenizer.encode_pairs(prompt + question.query, question.documents, prompt=prompt, **limits)
    limits["instruction"] = model.info.instruction_text(question.instruction)
    return model.tokenizer.encode_framed(template, question.query, question.documents, **limits)


def _query_and_documents(model: LoadedModel, question: RerankQuestion) -> Steps[Rows]:
    """Row 0 is the query."""
    rules, texts = model.info.interaction, [question.query, *question.documents]
    if rules is None:
        limits: Any = {"max_length": model.info.max_length, "truncate": question.truncate}
        return (yield from model.tokenizer.encode(texts, item=_item, **limits))
    encode = partial(encode_marked, model.tokenizer, rules, truncate=question.truncate)
    query = yield from encode(texts[:1], query=True, item=_item)
    documents = yield from encode(texts[1:], query=False, item=Item.document)
    truncated = (*query.truncated, *(index + 1 for index in documents.truncated))
    return marked_rows(rules, query + documents, truncated)


def _item(row: int) -> Item:
    return Item.document(row - 1) if row else Item("query")


def _sigmoid(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * scores)))  # 1 / (1 + e^-x) without its overflow
