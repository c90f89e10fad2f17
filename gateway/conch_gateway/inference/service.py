"""The one path from a request to its result, for every task.

Reserve room, acquire the model, look into the cache, have the backend compute the rest, and report what it took. A
request may be refused with 429 where it reserves room, and where the backend lets it join its backlog.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

from conch_client import InvalidInputError, ModelInfo, ModelReplacedError, Ranked, SparseVector, UnavailableError
from conch_contract import Task, approximated_space_of, check_space, space_of

from conch_gateway.backends.backend import Backend
from conch_gateway.concurrency import all_of
from conch_gateway.errors import InvalidValueError
from conch_gateway.inference.cache import SharedVectors, VectorCache
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
Compute = Callable[[Served, Reservation], Awaitable[Answer[Given]]]
Embed = Callable[[ModelInfo, EmbeddingJob, Reservation], Awaitable[Answer[Given]]]

_ONLY_LABEL = "LABEL_0"  # transformers' name, where a checkpoint has one label and gives it none
_REPLACED = "the model was replaced again and again; retry when the deployment is over"
_STARTS = 3  # how often a request may begin anew because its model was replaced, or its Triton went away


@dataclass(frozen=True, slots=True)
class Result(Generic[Given]):
    """What a request asked for: vectors, a ranking or scores; `model` is the name that the caller is told.

    Attributes:
        notes: what the caller should know of how it was computed.
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
        """`answered` is called with each embedding job that somebody waited for, its vectors and what they took."""
        self._max_inputs = settings.max_inputs
        self._truncate = settings.truncate
        self._triton_wait_s = settings.triton_wait_s
        self._models = models
        self._arrival = arrival
        self._admission = admission
        self._answered = answered
        self._cache = VectorCache(settings.cache_mb * 2**20, shared)

    async def embed(self, job: EmbeddingJob, context: RequestContext) -> Result[Vectors]:
        """Return one vector for each text: float32 [texts, dimension]."""
        self._check_texts(job)

        async def compute(model: Served, reservation: Reservation) -> Answer[Vectors]:
            _check_vectors(job, model)
            info, backend = model.info, model.backend
            source = backend.edition, info, job.truncate or self._truncate
            return await self._cache.complete(
                job, source, lambda part: backend.embed(info, part, reservation), anywhere=backend.edition is None
            )

        result = await self._run(job.model, {Task.EMBEDDING}, job.texts, context, compute, vectors=job)
        if not context.background:
            self._answered(job, result.given, result.usage)
        return result

    async def embed_chunks(self, job: EmbeddingJob, context: RequestContext) -> Result[Vectors]:
        """Return float32 [texts, dimension] of the chunks of one document, of the model derived from the named one."""
        self._check_texts(job)
        if not is_text(job.texts):
            msg = "late_chunking: the chunks of a document are joined as text; send text, not token ids"
            raise InvalidValueError(msg, param="input")

        async def compute(model: Served, reservation: Reservation) -> Answer[Vectors]:
            _check_vectors(job, model)
            return await model.backend.embed_chunks(model.info, job, reservation)

        return await self._run(job.model, {Task.LATE_CHUNKING}, job.texts, context, compute, vectors=job)

    async def embed_tokens(self, job: EmbeddingJob, context: RequestContext) -> Result[list[Vectors]]:
        """Return float32 [tokens, dimension] for each text, of the named model or of the one derived from it."""
        return await self._embed_whole(job, context, Task.MULTI_VECTOR, lambda backend: backend.embed_tokens)

    async def embed_sparse(self, job: EmbeddingJob, context: RequestContext) -> Result[list[SparseVector]]:
        """Return term ids and weights for each text, of the named model or of the one derived from it."""
        return await self._embed_whole(job, context, Task.SPARSE, lambda backend: backend.embed_sparse)

    async def rerank(self, job: RerankJob, context: RequestContext) -> Result[list[Ranked]]:
        """Return the best `top_n` documents by descending score."""
        self._check_count(len(job.documents), "documents", "documents")

        async def compute(model: Served, reservation: Reservation) -> Answer[list[Ranked]]:
            return await model.backend.rerank(model.info, job, reservation)

        return await self._run(job.model, RERANKING, job.documents, context, compute, beside=len(job.query))

    async def score(self, job: PairJob, context: RequestContext) -> Result[list[float]]:
        """Return a score for each pair; pairs that share their query are ranked together."""
        self._check_count(len(job.pairs), "pairs", None)
        _check_pairs(job.pairs)
        rows = [query + document for query, document in job.pairs]
        return await self._run(job.model, RERANKING, rows, context, lambda *served: _pair_scores(job, *served))

    async def classify(self, job: ClassificationJob, context: RequestContext) -> Result[list[list[Prediction]]]:
        """Return the labels of each input, best first; a reranker has one for pairs of texts."""
        self._check_count(len(job.inputs), "inputs", "inputs")
        pairs = [each for each in job.inputs if not isinstance(each, str)]
        _check_pairs(pairs)

        async def compute(model: Served, reservation: Reservation) -> Answer[list[list[Prediction]]]:
            if Task.CLASSIFICATION in model.backend.tasks(model.info):
                return await model.backend.classify(model.info, job, reservation)
            if len(pairs) < len(job.inputs):
                msg = f"inputs: {model.asked!r} is a reranker, which has a score for pairs of texts only; send pairs"
                raise InvalidValueError(msg, param="inputs")
            scored = await _pair_scores(PairJob(pairs, None, job.raw_scores, job.truncate), model, reservation)
            predictions = [[Prediction(_ONLY_LABEL, score)] for score in scored.given]
            return Answer(predictions, scored.tokens, truncated=scored.truncated)

        tasks = {Task.CLASSIFICATION, *(RERANKING if pairs else ())}
        return await self._run(job.model, tasks, job.rows, context, compute)

    async def _embed_whole(
        self, job: EmbeddingJob, context: RequestContext, task: Task, method: Callable[[Backend], Embed[Given]]
    ) -> Result[Given]:
        """Compute vectors that cannot be shortened, and are not cached, by a method of the backend."""
        self._check_texts(job, shortened=False)

        async def compute(model: Served, reservation: Reservation) -> Answer[Given]:
            _check_vectors(job, model)
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
        # Room is reserved first: a request that waits for a model to be loaded takes up room as well.
        with self._admission.reserve(
            context.request_id,
            context.caller,
            rows,
            beside=beside,
            stated_s=context.timeout_s,
            background=context.background,
        ) as reservation:
            for _ in range(_STARTS):
                chosen = self._models.use(name, tasks, context.key)
                result = await self._attempt(chosen, len(rows), context, reservation, compute, vectors=vectors)
                if isinstance(result, Result):
                    return result
                failure = result
        raise failure

    async def _attempt(
        self,
        chosen: AbstractAsyncContextManager[Served],
        texts: int,
        context: RequestContext,
        reservation: Reservation,
        compute: Compute[Given],
        *,
        vectors: EmbeddingJob | None,
    ) -> Result[Given] | UnavailableError:
        """Return the result, or why the request is to begin anew."""
        try:
            async with chosen as model:
                return await _measured(model, texts, context, reservation, compute, vectors=vectors)
        except ModelReplacedError:
            reservation.leave()
            return ModelReplacedError(_REPLACED)
        except UnavailableError as error:
            reservation.leave()
            waited_s = self._admission.now() - reservation.since
            if not await self._arrival.within(self._triton_wait_s - waited_s):
                raise
            return error

    def _check_texts(self, job: EmbeddingJob, *, shortened: bool = True) -> None:
        if job.counted:
            self._check_count(len(job.texts), "inputs", "input")
        if job.dimensions is not None and not shortened:
            raise InvalidValueError("dimensions: only dense vectors can be shortened; leave it out", param="dimensions")
        for name, value in (("prompt_name", job.prompt_name), ("instruction", job.instruction)):
            if value is not None and not is_text(job.texts):
                msg = f"{name}: a prompt can be put before text only, not before token ids; send text or leave it out"
                raise InvalidValueError(msg, param=name)

    def _check_count(self, count: int, what: str, param: str | None) -> None:
        if count > self._max_inputs:
            msg = f"{count} {what} are too many; send at most {self._max_inputs} in one request"
            raise InvalidValueError(msg, param=param)


async def _measured(
    model: Served,
    texts: int,
    context: RequestContext,
    reservation: Reservation,
    compute: Compute[Given],
    *,
    vectors: EmbeddingJob | None,
) -> Result[Given]:
    """Compute, and report what it took, also where that failed; `vectors` is the job if vectors are asked for."""
    space_id = _space(model, context, vectors)
    started, reservation.asked, reservation.model = perf_counter(), model.asked, model.info.name
    try:
        answer = await compute(model, reservation)
    except BaseException as error:
        # Inputs that turn out to be wrong only when they are computed have cost as much as others.
        wrong = isinstance(error, InvalidInputError) and reservation.queue_s is not None
        context.report(Usage(model.info.name, texts, reservation.tokens if wrong else 0, queue_s=reservation.queue_s))
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


def _space(model: Served, context: RequestContext, job: EmbeddingJob | None) -> str | None:
    """Return the vector space of the answer; raises SpaceError where the caller expects another."""
    if job is None:
        check_space(context.expect_space, None, repr(model.asked))
        return None
    # Vectors of tokens keep their lengths where a request does not say.
    normalize = job.normalize is True if model.info.task is Task.MULTI_VECTOR else job.normalize is not False
    space_id = space_of(model.info, job.dimensions, normalize=normalize)
    approximated = approximated_space_of(model.info, job.dimensions, normalize=normalize)
    for expected in (context.expect_space, job.expect_space):
        check_space(expected, space_id, repr(model.asked), approximated)
    return space_id


def _check_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    if not all(first for first, _ in pairs):
        raise InvalidValueError("the first text of a pair is empty; leave the pair out or send some text")


async def _pair_scores(job: PairJob, model: Served, reservation: Reservation) -> Answer[list[float]]:
    """Compute the score of each pair; those that share their query are ranked together."""
    groups: dict[str, list[int]] = {}
    for place, (query, _) in enumerate(job.pairs):
        groups.setdefault(query, []).append(place)
    scores = [0.0] * len(job.pairs)

    async def rank(query: str) -> Answer[list[Ranked]]:
        documents = [job.pairs[place][1] for place in groups[query]]
        question = RerankJob(
            query, documents, raw_scores=job.raw_scores, truncate=job.truncate, instruction=job.instruction
        )
        try:
            answer = await model.backend.rerank(model.info, question, reservation)
        except InvalidInputError as error:
            raise error.moved(groups[query]) from error
        for ranked in answer.given:
            scores[groups[query][ranked.index]] = ranked.score
        return answer

    answers = await all_of(rank, list(groups))
    tokens, truncated = sum(each.tokens for each in answers), sum(each.truncated for each in answers)
    return Answer(scores, tokens, truncated=truncated)


def _check_vectors(job: EmbeddingJob, model: Served) -> None:
    info = model.info
    if job.dimensions is not None and info.dimension is not None and job.dimensions > info.dimension:
        msg = f"dimensions: model {model.asked!r} has {info.dimension}; ask for at most as many"
        raise InvalidValueError(msg, param="dimensions")
    if job.normalize is False and info.normalized:
        msg = (
            f"normalize: {model.asked!r} is served with normalisation built in; send true, or export the model with "
            "--no-normalize"
        )
        raise InvalidValueError(msg, param="normalize")
