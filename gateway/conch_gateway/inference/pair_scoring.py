"""From pairs of texts to a score each: pairs that share their first text are one ranking's work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from conch_gateway.concurrency import all_of
from conch_gateway.errors import InvalidValueError
from conch_gateway.inference.jobs import PairJob, RerankJob
from conch_gateway.inference.reranking import Reranked, Reranker
from conch_gateway.settings import GatewaySettings
from conch_gateway.telemetry.trace import Trace

_AT_ONCE = 4  # rankings of one request under way: it must not fill the gateway by itself


@dataclass(frozen=True, slots=True)
class Scored:
    """The answer: a score for each pair, in their order, and the number of real tokens computed."""

    model: str
    scores: list[float]
    tokens: int


class PairScorer:
    """Computes pairs as rankings."""

    def __init__(self, settings: GatewaySettings, reranker: Reranker) -> None:
        self._settings = settings
        self._reranker = reranker

    async def score(self, job: PairJob, trace: Trace) -> Scored:
        """Compute one job and write what it took into the trace.

        Raises:
            InvalidValueError: too many pairs, or an empty query.
            CapacityError: the gateway is full.
            ConchError: as the client raises them.
        """
        self._check(job)
        places: dict[str, list[int]] = {}
        for place, (query, _) in enumerate(job.pairs):
            places.setdefault(query, []).append(place)
        traces = {query: replace(trace) for query in places}
        room = asyncio.Semaphore(_AT_ONCE)

        async def rank(query: str) -> Reranked:
            documents = [job.pairs[place][1] for place in places[query]]
            question = RerankJob(query, documents, job.model, raw_scores=job.raw_scores, truncate=job.truncate)
            async with room:
                return await self._reranker.rerank(question, traces[query])

        with trace.inferring():
            rankings = await all_of(rank(query) for query in places)
            waits = [part.queue_s for part in traces.values() if part.queue_s is not None]
            trace.queue_s = min(waits, default=None)
        scores = [0.0] * len(job.pairs)
        for query, reranked in zip(places, rankings, strict=True):
            for ranked in reranked.ranking:
                scores[places[query][ranked.index]] = ranked.score
        trace.model, trace.texts = next(iter(traces.values())).model, len(job.pairs)
        trace.tokens = sum(reranked.tokens for reranked in rankings)
        return Scored(rankings[0].model, scores, trace.tokens)

    def _check(self, job: PairJob) -> None:
        if len(job.pairs) > self._settings.max_inputs:
            msg = f"{len(job.pairs)} pairs are too many; send at most {self._settings.max_inputs} in one request"
            raise InvalidValueError(msg)
        if not all(query for query, _ in job.pairs):
            msg = "the first text of a pair is empty; leave the pair out or send some text"
            raise InvalidValueError(msg)
