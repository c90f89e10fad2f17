"""Triton as a backend, through the client: dense vectors in calls that requests share, everything else in its own.

All calls of a request are for the model's facts that it began with, not for a name: several Tritons may have different
versions, and one may be replaced in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from conch_client import (
    AsyncClient,
    ChunkVectors,
    Classification,
    ModelInfo,
    Ranked,
    Ranking,
    Replica,
    SparseVector,
    Token,
    TokenIds,
)
from conch_contract import Task

from conch_gateway.backends.calls import in_calls
from conch_gateway.backends.coalescer import Coalescer, Options
from conch_gateway.backends.long_documents import LongDocuments
from conch_gateway.backends.prompts import Prompt, choose_prompt
from conch_gateway.errors import InvalidValueError
from conch_gateway.jobs import (
    RERANKING,
    Answer,
    ClassificationJob,
    EmbeddingJob,
    Prediction,
    RerankJob,
    Texts,
    Vectors,
    is_text,
)
from conch_gateway.scheduling.admission import Backlog, Reservation
from conch_gateway.scheduling.sizes import CALLS_EACH, ROWS_ON_A_CPU, estimated_sizes
from conch_gateway.scheduling.slots import Slots
from conch_gateway.settings import GatewaySettings

_MOST_NUMBERS = 2**22  # of an answer with token vectors: 16 MiB of float32, and five times as much in JSON
_PROBE = "ready"

Vector = TypeVar("Vector")


class Triton:
    """The models that Triton serves, or several Tritons; see `Backend`."""

    edition: object = None  # the facts of a model say which weights it has

    def __init__(self, settings: GatewaySettings, client: AsyncClient) -> None:
        self._client = client
        self._truncate = settings.truncate
        self._timeout_s = settings.timeout_s
        self._stated_calls = settings.triton_calls
        self._used: dict[str, ModelInfo] = {}
        self._slots = Slots(settings.triton_calls or CALLS_EACH)
        self._long = LongDocuments(client, settings.timeout_s, settings.max_inputs)
        self._coalescer = Coalescer(client, self._slots, settings.timeout_s)
        self.shared_backlog = Backlog(self._slots, settings.timeout_s, "CONCH_TIMEOUT_S")

    @property
    def replicas(self) -> list[Replica]:
        """Each Triton as it stands now."""
        return self._client.replicas

    async def models(self) -> list[ModelInfo]:
        """Return all models of the repository that are loaded."""
        return await self._client.models()

    async def model(self, name: str) -> ModelInfo:
        """Return the facts of a model; raises ModelNotFoundError."""
        return await self._client.model(name)

    def tasks(self, info: ModelInfo) -> frozenset[Task]:
        """Return the one thing that the model does."""
        return frozenset({info.task})

    async def embed(self, info: ModelInfo, job: EmbeddingJob, reservation: Reservation) -> Answer[Vectors]:
        """Return float32 [texts, dimension]."""
        if is_text(job.texts) and not info.pools_prompt:
            return await self._embed_whole(info, job, reservation)
        ids, tokenize_s = await self._tokenized(info, job)
        row_tokens = list(map(len, ids))
        reservation.join(self._backlog_for(info), row_tokens, info.max_rows)
        options = Options(info, job.dimensions, normalize=job.normalize is not False)
        vectors = await self._coalescer.embed(ids, options, info.max_rows, reservation.entry)
        return Answer(vectors, reservation.tokens, row_tokens, tokenize_s, truncated=len(ids.truncated))

    async def _embed_whole(self, info: ModelInfo, job: EmbeddingJob, reservation: Reservation) -> Answer[Vectors]:
        """Embed texts in calls of their own: among ids of other requests nothing says where a prompt ends."""

        async def ask(texts: Texts, **options: Any) -> list[Vectors]:
            normalize = job.normalize is not False
            return list(await self._client.embed(texts, dimensions=job.dimensions, normalize=normalize, **options))

        answer = await self._each(ask, info, job, reservation)
        return Answer(
            np.stack(answer.given), answer.tokens, answer.row_tokens, answer.tokenize_s, truncated=answer.truncated
        )

    async def embed_chunks(self, info: ModelInfo, job: EmbeddingJob, reservation: Reservation) -> Answer[Vectors]:
        """Return float32 [texts, dimension] of texts that are the chunks of one document."""
        chunks = job.texts if is_text(job.texts) else []
        # Nothing is cut: a chunk that is not read would have no vector.
        options = {name: value for name, value in self._options(info, job).items() if name != "truncate"}

        async def compute(_: Sequence[int]) -> ChunkVectors:
            request_id, normalize = reservation.entry.request_id, job.normalize is not False
            return await self._client.embed_chunks(
                chunks, dimensions=job.dimensions, normalize=normalize, request_id=request_id, **options
            )

        sizes = estimated_sizes(["".join(chunks)], info.max_length)
        ((_, answer),) = await in_calls(compute, sizes, reservation, self._backlog_for(info), info.max_rows)
        return Answer(answer.vectors, answer.tokens)

    async def embed_tokens(self, info: ModelInfo, job: EmbeddingJob, reservation: Reservation) -> Answer[list[Vectors]]:
        """Return float32 [tokens, dimension] for each text."""

        async def ask(texts: Texts, **options: Any) -> list[Vectors]:
            return await self._client.embed_tokens(texts, normalize=job.normalize is True, **options)

        return await self._each(ask, info, job, reservation, _MOST_NUMBERS // (info.dimension or 1))

    async def embed_sparse(
        self, info: ModelInfo, job: EmbeddingJob, reservation: Reservation
    ) -> Answer[list[SparseVector]]:
        """Return term ids and weights for each text."""
        return await self._each(self._client.embed_sparse, info, job, reservation)

    async def rerank(self, info: ModelInfo, job: RerankJob, reservation: Reservation) -> Answer[list[Ranked]]:
        """Return the best documents, by descending raw score; a document that was split has that of its best part."""
        parts = await self._long.parts(info, job, job.truncate or self._truncate)

        async def rank(places: Sequence[int]) -> Ranking:
            return await self._client.rerank(
                job.query,
                [parts.texts[place] for place in places],
                model=info,
                instruction=job.instruction,
                raw_scores=job.raw_scores,
                truncate=job.truncate or self._truncate,
                timeout_s=self._timeout_s,
                request_id=reservation.entry.request_id,
            )

        sizes = estimated_sizes(parts.texts, info.max_length, beside=len(job.query))
        max_rows = max(1, info.max_rows - (info.task == Task.LATE_INTERACTION))  # there the query is a row too
        backlog = self._backlog_for(info)
        rankings = await in_calls(rank, sizes, reservation, backlog, max_rows, alike=True, spread=True)
        ranked = sorted(
            (-raw, parts.documents[places[one.index]], one.score)
            for places, ranking in rankings
            for raw, one in zip(ranking.raw_scores, ranking, strict=True)
        )
        best: dict[int, Ranked] = {}
        for _, document, score in ranked:
            best.setdefault(document, Ranked(document, score))
        tokens = sum(ranking.tokens for _, ranking in rankings)
        truncated = sum(len(ranking.truncated) for _, ranking in rankings)
        return Answer(list(best.values())[: job.top_n], tokens, notes=parts.notes, truncated=truncated)

    async def classify(
        self, info: ModelInfo, job: ClassificationJob, reservation: Reservation
    ) -> Answer[list[list[Prediction]]]:
        """Return the labels of each input by descending score; equal scores keep the order of the labels."""

        async def ask(places: Sequence[int]) -> Classification:
            return await self._client.classify(
                [job.inputs[place] for place in places],
                model=info,
                raw_scores=job.raw_scores,
                truncate=job.truncate or self._truncate,
                timeout_s=self._timeout_s,
                request_id=reservation.entry.request_id,
            )

        sizes = estimated_sizes(job.rows, info.max_length)
        backlog = self._backlog_for(info)
        calls = await in_calls(ask, sizes, reservation, backlog, info.max_rows, alike=True, spread=True)
        predictions: list[list[Prediction]] = [[]] * len(sizes)
        for places, found in calls:
            for place, scores in zip(places, found.scores.tolist(), strict=True):
                each = map(Prediction, found.labels, scores)
                predictions[place] = sorted(each, key=lambda prediction: -prediction.score)
        truncated = sum(len(found.truncated) for _, found in calls)
        return Answer(predictions, sum(found.tokens for _, found in calls), truncated=truncated)

    async def tokens(
        self, info: ModelInfo, texts: list[str], *, prompt_name: str | None, add_special_tokens: bool
    ) -> list[list[Token]]:
        """Split texts into tokens."""
        return await self._client.tokens(
            texts,
            model=info,
            **choose_prompt(info, prompt_name, None)._asdict(),
            add_special_tokens=add_special_tokens,
            timeout_s=self._timeout_s,
        )

    async def decode(self, info: ModelInfo, ids: Sequence[Sequence[int]], *, skip_special_tokens: bool) -> list[str]:
        """Join tokens to texts."""
        return await self._client.decode(
            ids, model=info, skip_special_tokens=skip_special_tokens, timeout_s=self._timeout_s
        )

    async def probe(self, info: ModelInfo, timeout_s: float) -> None:
        """Have a model compute one word: the smallest request that goes all the way, and warms it up."""
        if Task.EMBEDDING in self.tasks(info):
            await self._client.embed([_PROBE], model=info.name, timeout_s=timeout_s)
        elif self.tasks(info) <= RERANKING:
            await self._client.rerank(_PROBE, [_PROBE], model=info.name, timeout_s=timeout_s)
        elif Task.CLASSIFICATION in self.tasks(info):
            await self._client.classify([_PROBE], model=info.name, timeout_s=timeout_s)

    async def vector(self, info: ModelInfo, text: str, timeout_s: float) -> Vectors:
        """Return the vector of one text, float32 [dimension], in a call of its own beside all others."""
        (vector,) = await self._client.embed([text], model=info.name, timeout_s=timeout_s)
        return np.asarray(vector, np.float32)

    async def close(self) -> None:
        """Close the client."""
        await self._client.close()

    def _backlog_for(self, info: ModelInfo) -> Backlog:
        """Return the backlog of all models, with as many slots as keep the instances of each that is used busy."""
        tritons = [one.instances for one in self._client.replicas if one.state != "out"]
        loaded = set().union(*tritons)  # none where it is not known just now
        self._used = {name: used for name, used in self._used.items() if name in loaded or not loaded}
        self._used[info.name] = info
        if self._stated_calls is not None:
            self._slots.resize(self._stated_calls * max(1, sum(info.name in instances for instances in tritons)))
        elif most := max(_calls(each, tritons) for each in self._used.values()):
            self._slots.resize(most)
        return self.shared_backlog

    async def _each(
        self,
        ask: Callable[..., Awaitable[list[Vector]]],
        info: ModelInfo,
        job: EmbeddingJob,
        reservation: Reservation,
        most_tokens: int | None = None,
    ) -> Answer[list[Vector]]:
        """Compute an item for each text; tokens are counted before: one may have no vector, and several one term."""
        ids, tokenize_s = await self._tokenized(info, job)
        sizes = list(map(len, ids))
        if most_tokens is not None and sum(sizes) > most_tokens:
            msg = (
                f"{sum(sizes)} tokens are too many, as each gets a vector; with model {reservation.asked!r} send at "
                f"most {most_tokens} in one request"
            )
            raise InvalidValueError(msg, param="input")

        read = replace(job, texts=ids) if is_text(job.texts) and _ids_say_all(info, _prompt(info, job)) else job

        async def compute(places: Sequence[int]) -> list[Vector]:
            part: Any = [read.texts[place] for place in places]
            return await ask(part, request_id=reservation.entry.request_id, **self._options(info, read))

        backlog = self._backlog_for(info)
        answers = await in_calls(compute, sizes, reservation, backlog, info.max_rows, spread=True)
        given = list(chain.from_iterable(answer for _, answer in answers))
        return Answer(given, sum(sizes), sizes, tokenize_s, truncated=len(ids.truncated))

    async def _tokenized(self, info: ModelInfo, job: EmbeddingJob) -> tuple[TokenIds, float | None]:
        """Return the token ids of each text and the seconds that it took; None for ids that were given."""
        if not is_text(job.texts):
            return TokenIds(job.texts), None
        started = perf_counter()
        ids = await self._client.tokenize(job.texts, **self._options(info, job))
        return ids, perf_counter() - started

    def _options(self, info: ModelInfo, job: EmbeddingJob) -> dict[str, Any]:
        return {
            "model": info,
            **(_prompt(info, job)._asdict() if is_text(job.texts) else {}),
            "truncate": job.truncate or self._truncate,
            "timeout_s": self._timeout_s,
        }


def _prompt(info: ModelInfo, job: EmbeddingJob) -> Prompt:
    return choose_prompt(info, job.prompt_name, job.input_type, job.instruction)


def _ids_say_all(info: ModelInfo, prompt: Prompt) -> bool:
    """Return whether a model computes the same of token ids as of texts with this prompt, so that they are read once.

    Ids do not say which of them are of the prompt, nor, unless one marks them, that the texts are queries.
    """
    rules = info.interaction
    unmarked = rules is not None and rules.query_marker in {None, rules.document_marker}
    return info.pools_prompt and not info.looks_up(*prompt) and not unmarked


def _calls(info: ModelInfo, tritons: Sequence[Mapping[str, int | None]]) -> int:
    """Return how many calls keep all instances of a model busy; 0 if it is not known how many there are.

    Args:
        info: of the model, which says how many one Triton has where none is in `tritons`.
        tritons: the number of instances of each model at each Triton.
    """
    instances = [each[info.name] for each in tritons if info.name in each] or [info.instances]
    return CALLS_EACH * max(1, info.max_rows // ROWS_ON_A_CPU) * sum(count or 0 for count in instances)
