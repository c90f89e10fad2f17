"""The one path from a request to its result, for every task.

Reserve room, acquire the model, look into the cache, have the backend compute the rest, and report what it took. A
request may be refused with 429 where it reserves room, and where the backend lets it join its backlog.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Generic, TypeVar

from conch_client import (
    DeadlineExceededError,
    InvalidInputError,
    ModelInfo,
    ModelReplacedError,
    Ranked,
    SparseVector,
    Token,
    UnavailableError,
)
from conch_contract import Task

from conch_gateway.backends.backend import Backend
from conch_gateway.backends.prompts import is_query
from conch_gateway.errors import DeadlineError, InvalidValueError
from conch_gateway.inference.cache import SharedVectors, VectorCache
from conch_gateway.inference.checks import check_count, check_pairs, check_texts, check_vectors, checked_space
from conch_gateway.inference.pairs import pair_scores
from conch_gateway.jobs import (
    RERANKING,
    Answer,
    ClassificationJob,
    EmbeddingJob,
    PairJob,
    Prediction,
    RerankJob,
    Vectors,
    is_text,
)
from conch_gateway.models.arrival import Arrival
from conch_gateway.models.registry import Models, Served
from conch_gateway.scheduling.admission import Admission, Reservation
from conch_gateway.settings import GatewaySettings
from conch_gateway.telemetry.request import RequestContext, Usage

Given = TypeVar("Given")
Work = Callable[[Served, Reservation], Awaitable[Given]]
Compute = Work[Answer[Given]]
Embed = Callable[[ModelInfo, EmbeddingJob, Reservation], Awaitable[Answer[Given]]]

_ANY_TASK = frozenset(Task)
_ONLY_LABEL = "LABEL_0"  # transformers' name, where a checkpoint has one label and gives it none
_REPLACED = "the model was replaced again and again; retry when the deployment is over"
_COMPUTED = (InvalidInputError, DeadlineError, DeadlineExceededError)
_STARTS = 3  # how often a request may begin anew because its model was replaced, or its Triton went away


@dataclass(frozen=True, slots=True)
class Result(Generic[Given]):
    """The result of a request.

    Attributes:
        model: name of the model for the caller.
        given: vectors, a ranking, labels or scores.
        usage: tokens and timings.
        notes: remarks for the caller on how it was computed.
    """

    model: str
    given: Given
    usage: Usage
    notes: tuple[str, ...] = ()


class Inference:
    """Computes jobs within the limits of the settings.

    Every method raises CapacityError where there is no room or the request would wait too long; ModelNotFoundError,
    LoadingError and InvalidValueError for a model that is not there or does not do what the job asks;
    InvalidInputError with the indices of the inputs at fault; and what else the backend raises.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        models: Models,
        arrival: Arrival,
        admission: Admission,
        shared: SharedVectors | None,
        *,
        answered: Callable[[EmbeddingJob, Vectors, Usage], None],
    ) -> None:
        """`answered` is called with each embedding job that is not background work, its vectors and its usage."""
        self._max_inputs = settings.max_inputs
        self._max_uncounted = settings.max_in_flight_texts
        self._truncate = settings.truncate
        self._triton_wait_s = settings.triton_wait_s
        self._models = models
        self._arrival = arrival
        self._admission = admission
        self._answered = answered
        self._cache = VectorCache(settings.cache_mb * 2**20, shared)

    async def embed(self, job: EmbeddingJob, context: RequestContext) -> Result[Vectors]:
        """Return one vector for each text: float32 [texts, dimension]."""
        check_texts(job, self._max_inputs if job.counted else self._max_uncounted)

        async def compute(model: Served, reservation: Reservation) -> Answer[Vectors]:
            check_vectors(job, model.info, model.asked, of_two=model.of_two)
            source = model.backend.edition, model.info, job.truncate or self._truncate
            embed = partial(model.backend.embed, model.info, reservation=reservation)
            return await self._cache.complete(job, source, embed, anywhere=model.backend.edition is None)

        result = await self._run(job.model, {Task.EMBEDDING}, job.texts, context, compute, vectors=job)
        if not context.background:
            self._answered(job, result.given, result.usage)
        return result

    async def embed_chunks(self, job: EmbeddingJob, context: RequestContext) -> Result[Vectors]:
        """Return float32 [texts, dimension] of the chunks of one document, of the model derived from the named one."""
        if not is_text(job.texts):
            msg = "late_chunking: the chunks of a document are joined as text; send text, not token ids"
            raise InvalidValueError(msg, param="input")
        return await self._embed_uncached(
            job, context, Task.LATE_CHUNKING, lambda backend: backend.embed_chunks, shortened=True
        )

    async def embed_tokens(self, job: EmbeddingJob, context: RequestContext) -> Result[list[Vectors]]:
        """Return float32 [tokens, dimension] for each text, of the named model or of the one derived from it."""
        return await self._embed_uncached(job, context, Task.MULTI_VECTOR, lambda backend: backend.embed_tokens)

    async def embed_sparse(self, job: EmbeddingJob, context: RequestContext) -> Result[list[SparseVector]]:
        """Return term ids and weights for each text, of the named model or of the one derived from it."""
        return await self._embed_uncached(job, context, Task.SPARSE, lambda backend: backend.embed_sparse)

    async def rerank(self, job: RerankJob, context: RequestContext) -> Result[list[Ranked]]:
        """Return the best `top_n` documents by descending score."""
        check_count(len(job.documents), self._max_inputs, "documents", "documents")

        async def compute(model: Served, reservation: Reservation) -> Answer[list[Ranked]]:
            return await model.backend.rerank(model.info, job, reservation)

        return await self._run(job.model, RERANKING, job.documents, context, compute, beside=len(job.query))

    async def score(self, job: PairJob, context: RequestContext) -> Result[list[float]]:
        """Return a score for each pair; pairs that share their query are ranked together."""
        check_count(len(job.pairs), self._max_inputs, "pairs", None)
        check_pairs(job.pairs)
        # Not joined: a long query with each of many documents would take gigabytes.
        documents = [document for _, document in job.pairs]
        query_length = sum(len(query) for query, _ in job.pairs) // len(job.pairs)

        async def compute(model: Served, reservation: Reservation) -> Answer[list[float]]:
            return await pair_scores(job, model.info, model.backend, reservation)

        return await self._run(job.model, RERANKING, documents, context, compute, beside=query_length)

    async def classify(self, job: ClassificationJob, context: RequestContext) -> Result[list[list[Prediction]]]:
        """Return the labels of each input, best first; a reranker has one for pairs of texts."""
        check_count(len(job.inputs), self._max_inputs, "inputs", "inputs")
        pairs = [each for each in job.inputs if not isinstance(each, str)]
        check_pairs(pairs)

        async def compute(model: Served, reservation: Reservation) -> Answer[list[list[Prediction]]]:
            if Task.CLASSIFICATION in model.backend.tasks(model.info):
                return await model.backend.classify(model.info, job, reservation)
            if len(pairs) < len(job.inputs):
                msg = f"inputs: {model.asked!r} is a reranker, which has a score for pairs of texts only; send pairs"
                raise InvalidValueError(msg, param="inputs")
            asked = PairJob(pairs, None, job.raw_scores, job.truncate)
            scored = await pair_scores(asked, model.info, model.backend, reservation)
            predictions = [[Prediction(_ONLY_LABEL, score)] for score in scored.given]
            return Answer(predictions, scored.tokens, truncated=scored.truncated)

        tasks = {Task.CLASSIFICATION, *(RERANKING if pairs else ())}
        return await self._run(job.model, tasks, job.rows, context, compute)

    async def default_model(self, context: RequestContext) -> Served:
        """Return the model of requests that name none, whatever it does."""

        async def found(served: Served, _: Reservation) -> Served:
            return served

        return await self._with_model(None, _ANY_TASK, (), context, found)

    async def tokens(
        self,
        texts: list[str],
        model: str | None,
        context: RequestContext,
        *,
        prompt_name: str | None,
        add_special_tokens: bool,
    ) -> list[list[Token]]:
        """Split texts into tokens, as the model reads them."""

        async def split(served: Served, reservation: Reservation) -> list[list[Token]]:
            reservation.model = served.info.name
            return await served.backend.tokens(
                served.info, texts, prompt_name=prompt_name, add_special_tokens=add_special_tokens
            )

        query = is_query(EmbeddingJob(texts, prompt_name=prompt_name))
        return await self._with_model(model, _ANY_TASK, texts, context, split, query=query)

    async def decode(
        self, ids: list[list[int]], model: str | None, context: RequestContext, *, skip_special_tokens: bool
    ) -> list[str]:
        """Join the model's tokens to texts."""

        async def join(served: Served, reservation: Reservation) -> list[str]:
            reservation.model = served.info.name
            return await served.backend.decode(served.info, ids, skip_special_tokens=skip_special_tokens)

        return await self._with_model(model, _ANY_TASK, ids, context, join)

    async def _embed_uncached(
        self,
        job: EmbeddingJob,
        context: RequestContext,
        task: Task,
        method: Callable[[Backend], Embed[Given]],
        *,
        shortened: bool = False,
    ) -> Result[Given]:
        """Compute vectors that are not cached, and can be `shortened` or not, by a method of the backend."""
        check_texts(job, self._max_inputs, shortened=shortened)

        async def compute(model: Served, reservation: Reservation) -> Answer[Given]:
            check_vectors(job, model.info, model.asked, of_two=model.of_two)
            return await method(model.backend)(model.info, job, reservation)

        return await self._run(job.model, {task}, job.texts, context, compute, vectors=job)

    async def _run(
        self,
        name: str | None,
        tasks: Set[Task],
        rows: Sequence[str] | Sequence[Sequence[int]],
        context: RequestContext,
        compute: Compute[Given],
        *,
        beside: int = 0,
        vectors: EmbeddingJob | None = None,
    ) -> Result[Given]:
        async def measured(model: Served, reservation: Reservation) -> Result[Given]:
            return await _measured(model, len(rows), context, reservation, compute, vectors=vectors)

        query = vectors is not None and is_query(vectors)
        return await self._with_model(name, tasks, rows, context, measured, beside=beside, query=query)

    async def _with_model(
        self,
        name: str | None,
        tasks: Set[Task],
        rows: Sequence[str] | Sequence[Sequence[int]],
        context: RequestContext,
        work: Work[Given],
        *,
        beside: int = 0,
        query: bool = False,
    ) -> Given:
        """Do work with a model. It begins anew where the model was replaced, or when a Triton has come."""
        # Room is reserved first: a request that waits for a model to be loaded takes up room as well.
        with self._admission.reserve(
            context.request_id,
            context.caller,
            rows,
            beside=beside,
            stated_s=context.timeout_s,
            background=context.background,
        ) as reservation:
            failure: UnavailableError
            for _ in range(_STARTS):
                chosen = self._models.use(name, tasks, context.key, query=query)
                try:
                    async with chosen as model:
                        return await work(model, reservation)
                except ModelReplacedError:
                    reservation.leave()
                    failure = ModelReplacedError(_REPLACED)
                except UnavailableError as error:
                    reservation.leave()
                    waited_s = self._admission.now() - reservation.since
                    if not await self._arrival.within(self._triton_wait_s - waited_s):
                        raise
                    failure = error
        raise failure


async def _measured(
    model: Served,
    texts: int,
    context: RequestContext,
    reservation: Reservation,
    compute: Compute[Given],
    *,
    vectors: EmbeddingJob | None,
) -> Result[Given]:
    """Compute, and report the usage, also of a failure; `vectors` is the job if it asks for vectors."""
    space_id = checked_space(model.space, model.asked, context, vectors)
    started, reservation.asked, reservation.model = perf_counter(), model.asked, model.info.name
    try:
        answer = await compute(model, reservation)
    except BaseException as error:
        # Servers go on with the calls of a caller who has left or run out of time, and find some inputs to be wrong by
        # computing them only: these calls have cost as much as others. Those that a server failed at count as nothing.
        failed = isinstance(error, Exception) and not isinstance(error, _COMPUTED)
        tokens = reservation.spent(under_way=not failed)
        context.report(Usage(model.info.name, texts, tokens, queue_s=reservation.queue_s))
        raise
    queue_s, inference_s = reservation.queue_s, None
    if queue_s is not None:
        inference_s = perf_counter() - started - queue_s - (answer.tokenize_s or 0.0)
    usage = Usage(
        model=model.info.name,
        texts=texts,
        tokens=answer.tokens,
        cache_hits=answer.cache_hits,
        tokenize_s=answer.tokenize_s,
        queue_s=queue_s,
        inference_s=inference_s,
        truncated=answer.truncated,
        space_id=space_id,
    )
    context.report(usage)
    return Result(model.name, answer.given, usage, answer.notes)
