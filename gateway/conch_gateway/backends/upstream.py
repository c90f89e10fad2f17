"""An upstream's model as a backend: turns jobs into requests of OpenAI's dialect, in calls, and checks the answers.

Only what the model's table declares is requested. Dense vectors are scaled to length 1, as those of Triton's models
are; everything else is passed on unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain, count
from typing import NoReturn, TypeVar

import anyio
import numpy as np
from conch_client import InvalidInputError, ModelInfo, Ranked, Replica, SparseVector
from conch_contract import Task, Truncate, units

from conch_gateway.backends.backend import Kind
from conch_gateway.backends.calls import in_calls
from conch_gateway.backends.prompts import choose_prompt
from conch_gateway.backends.upstream_answers import NonsenseError, read_dense, read_late, read_ranking, read_sparse
from conch_gateway.backends.upstream_server import UpstreamServers
from conch_gateway.backends.upstream_table import UpstreamTable, VectorType
from conch_gateway.errors import DeadlineError, InvalidValueError
from conch_gateway.jobs import Answer, EmbeddingJob, RerankJob, Texts, Vectors, is_text
from conch_gateway.scheduling.admission import Backlog, Reservation
from conch_gateway.scheduling.sizes import estimated_sizes
from conch_gateway.scheduling.slots import Slots

Given = TypeVar("Given")
Fields = Mapping[str, object]
Read = Callable[[bytes, int], Answer[list[Given]]]

_TASKS: Mapping[VectorType, Task] = {"dense": Task.EMBEDDING, "late": Task.MULTI_VECTOR, "sparse": Task.SPARSE}
_IN_BASE64: Fields = {"encoding_format": "base64"}
_WITHOUT_EXTENSIONS = {
    "instruction": "leave it out",
    "normalize": "leave it out",
    "truncate": "it cuts the end of a text, or refuses it: leave it out",
    "raw_scores": "its scores may be of either kind: ask for them as it gives them, on a path such as /v1/rerank",
}
"""What callers can do without a field that is neither OpenAI's nor Cohere's."""
_EDITIONS = count()


class Upstream:
    """One public name of an upstream's model; see `Backend`.

    Attributes:
        edition: a number that no other object has. So vectors that were cached from another object are not used: after
            a reload of the models file the upstream may have another model under the name.
    """

    def __init__(self, name: str, table: UpstreamTable, truncate: Truncate) -> None:
        """`truncate` is the default; raises ModelsFileError if the server's key is missing."""
        self._does = (Task.RERANK,) if table.task == "rerank" else tuple(_TASKS[kind] for kind in table.vector_types)
        self._info = _info(name, self._does[0], table)
        self._table = table
        self._servers = UpstreamServers(table)
        self._dimension = table.dimension
        self._truncate = truncate
        slots = Slots(table.calls * len(self._servers.replicas))
        self._backlog = Backlog(slots, table.timeout_s, "timeout_s of {} in the models file")
        self.edition: object = next(_EDITIONS)

    @property
    def replicas(self) -> list[Replica]:
        """Each of its servers as it stands now."""
        return self._servers.replicas

    async def models(self) -> list[ModelInfo]:
        """Return the one model."""
        return [self._info]

    async def model(self, name: str) -> ModelInfo:  # noqa: ARG002 - there is one
        """Return the model."""
        return self._info

    def tasks(self, info: ModelInfo) -> frozenset[Task]:  # noqa: ARG002
        """Return what the table declares."""
        return frozenset(self._does)

    async def embed(self, info: ModelInfo, job: EmbeddingJob, reservation: Reservation) -> Answer[Vectors]:
        """Return float32 [texts, dimension]."""
        self._check_dimensions(job.dimensions)

        def read(content: bytes, count: int) -> Answer[list[Vectors]]:
            answer = read_dense(content, count)
            self._check_length(len(answer.given[0]), job.dimensions)
            return answer

        answer = await self._embeddings(info, job, reservation, {"dimensions": job.dimensions, **_IN_BASE64}, read)
        vectors = np.stack(self._shortened(answer.given, job.dimensions))
        return Answer(vectors if job.normalize is False else units(vectors), answer.tokens)

    async def embed_tokens(self, info: ModelInfo, job: EmbeddingJob, reservation: Reservation) -> Answer[list[Vectors]]:
        """Return float32 [tokens, dimension] for each text."""
        return await self._embeddings(info, job, reservation, {"vector_type": "late", **_IN_BASE64}, read_late)

    async def embed_sparse(
        self, info: ModelInfo, job: EmbeddingJob, reservation: Reservation
    ) -> Answer[list[SparseVector]]:
        """Return term ids and weights for each text."""
        return await self._embeddings(info, job, reservation, {"vector_type": "sparse"}, read_sparse)

    async def rerank(self, info: ModelInfo, job: RerankJob, reservation: Reservation) -> Answer[list[Ranked]]:
        """Return the best documents, by descending score."""
        self._check_extensions(
            truncate=job.truncate == "start", instruction=job.instruction is not None, raw_scores=job.raw_scores
        )
        parts = job.document_parts if job.document_parts > 1 else None
        further: dict[str, object] = {"max_tokens_per_doc": job.document_tokens, "max_chunks_per_doc": parts}
        if self._table.extensions:
            further |= {"return_documents": False, "truncate": job.truncate or self._truncate}
            further |= {"instruction": job.instruction}
            if job.raw_scores:
                further |= {"raw_scores": True, "use_activation": False}  # others' word for it, and vLLM's

        def body(places: Sequence[int]) -> Fields:
            documents = [job.documents[place] for place in places]
            return {"query": job.query, "documents": documents, "top_n": best_of(len(documents)), **further}

        def best_of(documents: int) -> int:
            return min(job.top_n or documents, documents)

        def read(content: bytes, documents: int) -> Answer[list[Ranked]]:
            return read_ranking(content, documents, best_of(documents))

        sizes = estimated_sizes(job.documents, info.max_length, beside=len(job.query))
        calls = await self._in_calls("rerank", body, sizes, reservation, read)
        ranked = [Ranked(places[index], score) for places, answer in calls for index, score in answer.given]
        ranked.sort(key=lambda one: (-one.score, one.index))
        return Answer(ranked[: job.top_n], sum(answer.tokens for _, answer in calls))

    async def tokens(self, *_: object, **__: object) -> NoReturn:
        """Refuse: the gateway does not have the tokenizer, and upstreams do not classify."""
        msg = "an upstream has the model, and the gateway does not have its tokenizer; ask the upstream itself"
        raise InvalidValueError(msg, param="model")

    decode = classify = embed_chunks = tokens

    async def close(self) -> None:
        """Close its connections."""
        await self._servers.close()

    async def _embeddings(
        self, info: ModelInfo, job: EmbeddingJob, reservation: Reservation, fields: Fields, read: Read[Given]
    ) -> Answer[list[Given]]:
        texts, further = self._worded(info, job)

        def body(places: Sequence[int]) -> Fields:
            return {"input": [texts[place] for place in places], **fields, **further}

        sizes = estimated_sizes(texts, info.max_length)
        answers = [answer for _, answer in await self._in_calls("embeddings", body, sizes, reservation, read)]
        given = list(chain.from_iterable(answer.given for answer in answers))
        return Answer(given, sum(answer.tokens for answer in answers))

    async def _in_calls(
        self,
        path: str,
        body: Callable[[Sequence[int]], Fields],
        sizes: Sequence[int],
        reservation: Reservation,
        read: Read[Given],
    ) -> list[tuple[Sequence[int], Answer[list[Given]]]]:
        def limited(*, whole: bool) -> AbstractContextManager[None]:
            # Background work waits for its slots as long as others have them: its calls have the time, not the whole.
            return nullcontext() if reservation.background is whole else self._in_time()

        async def ask(places: Sequence[int]) -> Answer[list[Given]]:
            stated = {name: value for name, value in body(places).items() if value is not None}
            request = {"model": self._table.model, **stated}
            tokens, request_id = sum(sizes[place] for place in places), reservation.entry.request_id
            try:
                with limited(whole=False):
                    answer = await self._servers.ask(
                        path, request, request_id, tokens, lambda content: read(content, len(places))
                    )
            except InvalidInputError as error:
                raise _located(error, len(places), split=len(places) < len(sizes)) from error
            # Where it does not say how many tokens it took, the estimate counts.
            return answer if answer.tokens else replace(answer, tokens=tokens)

        self._backlog.slots.resize(self._table.calls * self._servers.in_service)
        with limited(whole=True):
            return await in_calls(ask, sizes, reservation, self._backlog, self._table.max_rows)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        with anyio.move_on_after(self._table.timeout_s) as scope:
            yield
        if scope.cancelled_caught:
            msg = (
                f"the server of the model did not answer within {self._table.timeout_s:g} s; send less at once, or "
                "raise timeout_s in the models file"
            )
            raise DeadlineError(msg)

    def _worded(self, info: ModelInfo, job: EmbeddingJob) -> tuple[Texts, Fields]:
        """Return the texts to send, and the fields beside them that the server takes (`extensions`)."""
        self._check_extensions(truncate=job.truncate == "start", normalize=job.normalize is False)
        options: dict[str, object] = {}
        if self._table.extensions:
            options["truncate"] = job.truncate or self._truncate
            if job.normalize is False:
                options |= {"normalize": False, "normalized": False}  # vLLM's word, and Jina's
        if self._table.prompts is None and self._table.extensions:
            options |= {"instruction": job.instruction, "input_type": job.input_type, "prompt_name": job.prompt_name}
            return job.texts, options
        if not is_text(job.texts):
            return job.texts, options
        prompt = info.prompt_text(*choose_prompt(info, job.prompt_name, job.input_type, job.instruction))
        return [prompt + text for text in job.texts], options

    def _check_extensions(self, **asked: bool) -> None:
        """Refuse options for which OpenAI and Cohere have no field, where the server takes no others."""
        for name, is_asked in asked.items():
            if is_asked and not self._table.extensions:
                msg = f"{name}: the server of the model takes no such field (extensions); {_WITHOUT_EXTENSIONS[name]}"
                raise InvalidValueError(msg, param=name)

    def _check_dimensions(self, dimensions: int | None) -> None:
        """Refuse lengths that are not declared."""
        lengths = self._table.matryoshka_dimensions
        if dimensions is None or lengths is None or dimensions in {*lengths, self._table.dimension}:
            return
        msg = (
            f"dimensions: the model is declared to give {', '.join(map(str, sorted(lengths)))}; ask for one of them, "
            "or declare it in the models file: matryoshka_dimensions"
        )
        raise InvalidValueError(msg, param="dimensions")

    def _check_length(self, length: int, dimensions: int | None) -> None:
        """Refuse vectors of another length than the requested one, or the declared one, or else that seen before.

        Vectors of the whole length are accepted for any request: the server may ignore `dimensions`.
        """
        if length == dimensions:
            return
        if self._dimension is None:
            self._dimension = length
        if length != self._dimension:
            raise NonsenseError(f"its vectors have {length} numbers instead of {dimensions or self._dimension}")

    def _shortened(self, vectors: list[Vectors], dimensions: int | None) -> list[Vectors]:
        """Shorten what the server has not, where the table says that the model was trained for that."""
        longest = max(map(len, vectors))
        if dimensions is None or longest == dimensions:
            return vectors
        if longest < dimensions:
            msg = f"dimensions: the model has {longest}; ask for at most as many"
            raise InvalidValueError(msg, param="dimensions")
        if self._table.matryoshka_dimensions is None:
            msg = (
                "dimensions: the server of the model does not shorten vectors; leave it out, or, if the model was "
                "trained for shorter ones, say so in the models file, and the gateway does: matryoshka_dimensions"
            )
            raise InvalidValueError(msg, param="dimensions")
        return [vector[:dimensions] for vector in vectors]


def _located(error: InvalidInputError, rows: int, *, split: bool) -> InvalidInputError:
    """Return the error with the indices that the server gave, or else with all of its call, if that is one of several.

    What is in brackets in a message may be something else than places in the call.
    """
    if error.indices and max(error.indices) < rows:
        return error
    if not split:
        return InvalidInputError(str(error))
    indices = list(range(rows))
    return InvalidInputError(f"{error} (in a call with inputs {indices})", indices)


def _info(name: str, task: Task, table: UpstreamTable) -> ModelInfo:
    return ModelInfo(
        name=name,
        task=task,
        description="A model of an upstream.",
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


KIND = Kind(UpstreamTable, Upstream)
