"""A model of another server: how requests for it are worded, split and put in turns.

The other server is asked for what its table declares and nothing else. Long lists go to it in calls of so many texts,
and calls take turns as those to Triton do, so that one caller's list does not hold up another's query. Dense vectors
have length 1 afterwards, as those of Triton's models have; the rest is handed on as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, count
from typing import Any, TypeVar

import numpy as np
from conch_client import ModelInfo, Ranked, Ranking, SparseVector
from conch_contract import Task
from numpy.typing import NDArray

from conch_gateway.api.fields.texts import Texts, is_text
from conch_gateway.backends.answers import Answer, NonsenseError, read_dense, read_late, read_ranking, read_sparse
from conch_gateway.backends.other_server import OtherServer
from conch_gateway.concurrency import all_of, cancelled_after
from conch_gateway.errors import DeadlineError, InvalidValueError
from conch_gateway.inference.jobs import EmbeddingJob, RerankJob
from conch_gateway.inference.prompts import choose_prompt
from conch_gateway.models.models_file import UpstreamTable, VectorType
from conch_gateway.scheduling.admission import estimated_tokens
from conch_gateway.scheduling.line import Line
from conch_gateway.scheduling.turns import Share, Turns
from conch_gateway.settings import GatewaySettings
from conch_gateway.telemetry.trace import Trace

Given = TypeVar("Given")
Vectors = NDArray[np.float32]
Fields = Mapping[str, object]

_TASKS: Mapping[VectorType, Task] = {"dense": Task.EMBEDDING, "late": Task.MULTI_VECTOR, "sparse": Task.SPARSE}
_EDITIONS = count()


class Upstream:
    """One public name of another server's model; belongs to one event loop.

    All that ask raise InvalidValueError for what the other server refuses or its table rules out, UpstreamBusyError
    when it takes no more now, UpstreamError when it cannot be reached, failed, or answered nonsense, and
    DeadlineError when the request takes longer than the table's `timeout_s`.

    Attributes:
        info: what its table says of it.
        tasks: what it is declared to do, the first of them `info.task`.
        line: of the requests that wait for the server.
        edition: a number of this object's own: what is remembered of another one's answers does not count for it.
    """

    def __init__(self, name: str, table: UpstreamTable, settings: GatewaySettings) -> None:
        """Settings apply where a request says nothing; raises ModelsFileError when the table's key is missing."""
        self.tasks = (Task.RERANK,) if table.task == "rerank" else tuple(_TASKS[kind] for kind in table.vector_types)
        self.info = _info(name, self.tasks[0], table)
        self.edition = next(_EDITIONS)
        self._table = table
        self._server = OtherServer(name, table)
        self._turns = Turns(table.calls)
        self._dimension = table.dimension
        self._truncate = settings.truncate
        self.line = Line(self._turns, table.timeout_s, f"timeout_s of {name} in the models file")

    async def embed(self, job: EmbeddingJob, trace: Trace) -> Answer[Vectors]:
        """Return dense vectors, float32 [texts, dimension]."""
        self._check_dimensions(job.dimensions)

        def read(content: bytes, count: int) -> Answer[Vectors]:
            answer = read_dense(content, count)
            self._check_length(answer.given.shape[1], job.dimensions)
            return answer

        answers = await self._embeddings(job, trace, {"dimensions": job.dimensions, **_IN_BASE64}, read)
        vectors = np.concatenate([answer.given for answer in answers])
        return Answer(vectors if job.normalize is False else _normalized(vectors), _sum(answers))

    async def embed_tokens(self, job: EmbeddingJob, trace: Trace) -> Answer[list[Vectors]]:
        """Return float32 [tokens, dimension] for each text."""
        answers = await self._embeddings(job, trace, {"vector_type": "late", **_IN_BASE64}, read_late)
        return Answer(list(chain.from_iterable(answer.given for answer in answers)), _sum(answers))

    async def embed_sparse(self, job: EmbeddingJob, trace: Trace) -> Answer[list[SparseVector]]:
        """Return term ids and weights for each text."""
        answers = await self._embeddings(job, trace, {"vector_type": "sparse"}, read_sparse)
        return Answer(list(chain.from_iterable(answer.given for answer in answers)), _sum(answers))

    async def rerank(self, job: RerankJob, trace: Trace) -> Ranking:
        """Return the ranking, best first."""
        extensions: dict[str, object] = {"return_documents": False, "truncate": job.truncate or self._truncate}
        if job.raw_scores:
            extensions |= {"raw_scores": True, "use_activation": False}  # others' word for it, and vLLM's
        further = {"max_tokens_per_doc": job.document_tokens, **(extensions if self._table.extensions else {})}

        async def rank(documents: Sequence[str], share: Share) -> Answer[list[Ranked]]:
            best = min(job.top_n or len(documents), len(documents))
            fields = {"query": job.query, "documents": documents, "top_n": best, **further}
            tokens = estimated_tokens([job.query, *documents], self._table.max_length)
            read = partial(read_ranking, documents=len(documents), count=best)
            return await self._call("rerank", fields, tokens, share, read)

        answers = await self._in_parts(job.documents, trace, rank)
        ranked = [
            Ranked(number * self._table.max_rows + index, score)
            for number, answer in enumerate(answers)
            for index, score in answer.given
        ]
        ranked.sort(key=lambda one: (-one.score, one.index))
        return Ranking(ranked[: job.top_n], _sum(answers))

    async def close(self) -> None:
        """Close its connections."""
        await self._server.close()

    async def _embeddings(
        self, job: EmbeddingJob, trace: Trace, fields: Fields, read: Callable[..., Answer[Given]]
    ) -> list[Answer[Given]]:
        texts, further = self._worded(job)

        async def embed(part: Texts, share: Share) -> Answer[Given]:
            tokens = estimated_tokens(part, self._table.max_length)
            asked = {"input": part, **fields, **further}
            return await self._call("embeddings", asked, tokens, share, partial(read, count=len(part)))

        return await self._in_parts(texts, trace, embed)

    async def _in_parts(
        self, items: Any, trace: Trace, ask: Callable[[Any, Share], Coroutine[Any, Any, Answer[Given]]]
    ) -> list[Answer[Given]]:
        """Ask part by part, so that others get a turn in between."""
        rows = self._table.max_rows
        parts = [items[begin : begin + rows] for begin in range(0, len(items), rows)]
        late = DeadlineError(
            f"the server of {self.info.name} did not answer within {self._table.timeout_s:g} s; send less at once, or "
            "raise timeout_s in the models file"
        )
        with self._turns.share(trace, large=len(parts) > 1) as share, cancelled_after(self._table.timeout_s, late):
            try:
                return await all_of(ask(part, share) for part in parts)
            except InvalidValueError as error:
                if len(parts) == 1:
                    raise
                msg = f"{error} (it was asked in {len(parts)} calls of {rows}: places count within one)"
                raise InvalidValueError(msg) from error

    async def _call(
        self, path: str, fields: Fields, tokens: int, share: Share, read: Callable[[bytes], Answer[Given]]
    ) -> Answer[Given]:
        """Take a turn and ask; of an answer that does not say how many tokens it took, the estimate counts."""
        stated = {name: value for name, value in fields.items() if value is not None}
        async with self._turns.turn(share, tokens):
            content = await self._server.ask(path, {"model": self._table.model, **stated}, share.trace.request_id)
        try:
            answer = read(content)
        except NonsenseError as error:
            raise self._server.failed(str(error)) from error
        return answer if answer.tokens else replace(answer, tokens=tokens)

    def _told(self, job: EmbeddingJob) -> Fields:
        """Return what the server is told beside the texts, where it takes more fields than OpenAI's."""
        if not self._table.extensions:
            if job.normalize is False:
                msg = f"normalize: the server of {self.info.name} takes OpenAI's fields only (extensions); leave it out"
                raise InvalidValueError(msg, param="normalize")
            return {}
        raw = {"normalize": False, "normalized": False} if job.normalize is False else {}  # vLLM's word, and Jina's
        return {"truncate": job.truncate or self._truncate, **raw}

    def _worded(self, job: EmbeddingJob) -> tuple[Texts, Fields]:
        """Return the texts as they are sent, and what the server is told of them."""
        told = self._told(job)
        if self._table.prompts is None and self._table.extensions:
            return job.texts, {**told, "input_type": job.input_type, "prompt_name": job.prompt_name}
        if not is_text(job.texts):
            return job.texts, told
        prompt = self.info.prompt_text(*choose_prompt(self.info, job.prompt_name, job.input_type))
        return [prompt + text for text in job.texts], told

    def _check_dimensions(self, dimensions: int | None) -> None:
        """Refuse lengths that are not declared."""
        lengths = self._table.matryoshka_dimensions
        if dimensions is None or lengths is None or dimensions in {*lengths, self._table.dimension}:
            return
        msg = (
            f"dimensions: {self.info.name!r} is declared to give {', '.join(map(str, sorted(lengths)))}; ask for one "
            "of them, or declare it in the models file: matryoshka_dimensions"
        )
        raise InvalidValueError(msg, param="dimensions")

    def _check_length(self, length: int, dimensions: int | None) -> None:
        """Refuse vectors of another length than was asked for, or declared, or else seen before."""
        if dimensions is None and self._dimension is None:
            self._dimension = length
        expected = dimensions or self._dimension
        if length != expected:
            msg = f"its vectors have {length} numbers instead of {expected}"
            raise NonsenseError(msg)


_IN_BASE64: Fields = {"encoding_format": "base64"}


def _normalized(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def _sum(answers: Sequence[Answer[Any]]) -> int:
    return sum(answer.tokens for answer in answers)


def _info(name: str, task: Task, table: UpstreamTable) -> ModelInfo:
    return ModelInfo(
        name=name,
        task=task,
        description="A model of another server.",
        max_length=table.max_length,
        max_rows=table.max_rows,
        inputs=(),
        output="",
        tokenizer="",
        tokenizer_sha256="",
        tokenizer_bytes=0,
        source=table.model,
        dimension=table.dimension,
        prompts=table.prompts or {},
        default_prompt_name=table.default_prompt_name,
        matryoshka_dimensions=table.matryoshka_dimensions,
    )
