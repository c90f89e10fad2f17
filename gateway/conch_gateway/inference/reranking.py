"""The one way from a query and documents to their ranking, whatever dialect asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from conch_client import InvalidInputError, ModelInfo, Ranked, Ranking
from conch_contract import Task

from conch_gateway.concurrency import all_of
from conch_gateway.errors import InvalidValueError
from conch_gateway.inference.jobs import RerankJob
from conch_gateway.models.registry import Models
from conch_gateway.models.tasks import RERANKING
from conch_gateway.scheduling.admission import Admission, estimated_tokens
from conch_gateway.scheduling.turns import Share
from conch_gateway.settings import GatewaySettings
from conch_gateway.telemetry.trace import Trace


@dataclass(frozen=True, slots=True)
class Reranked:
    """The answer: pairs of index and score by descending score, and the number of real tokens computed."""

    model: str
    ranking: Ranking
    tokens: int


class Reranker:
    """Computes reranking jobs within the limits of the settings."""

    def __init__(self, settings: GatewaySettings, models: Models, admission: Admission) -> None:
        self._settings = settings
        self._models = models
        self._admission = admission
        self._turns = admission.turns

    async def rerank(self, job: RerankJob, trace: Trace) -> Reranked:
        """Compute one job and write what it took into the trace.

        Raises:
            InvalidValueError: too many documents.
            CapacityError: the gateway is full.
            UpstreamError: as `Upstream` raises them, and UpstreamBusyError.
            ConchError: as the client raises them.
        """
        self._check_count(len(job.documents))
        with self._admission.admit(job.documents, trace, job.query) as hold:
            async with self._models.use(job.model, RERANKING, trace.key) as choice:
                self._admission.know(choice.info)
                hold.stand_in_line(choice.line)
                trace.enter(choice.info.name, len(job.documents))
                with trace.inferring():
                    if choice.upstream is None:
                        ranking = await self._rank(job, choice.info, trace)
                    else:
                        ranking = await choice.upstream.rerank(job, trace)
                trace.tokens = ranking.tokens
                hold.correct(ranking.tokens)
                return Reranked(choice.name, ranking, ranking.tokens)

    async def _rank(self, job: RerankJob, info: ModelInfo, trace: Trace) -> Ranking:
        """Rank part by part, so that others get a turn in between."""
        job = replace(job, documents=await self._shortened(job, info))
        parts = _parts(job.documents, info)
        with self._turns.share(trace, large=len(parts) > 1) as share:
            try:
                rankings = await all_of(self._rank_part(job, part, info, share) for part in parts)
            except InvalidInputError:
                if len(parts) == 1:
                    raise
                # Documents were counted within their part; of the whole, the client says which it is.
                rankings = [await self._rank_part(job, range(len(job.documents)), info, share)]
        return _merged(rankings, job.top_n)

    async def _rank_part(self, job: RerankJob, part: Sequence[int], info: ModelInfo, share: Share) -> Ranking:
        documents = [job.documents[index] for index in part]
        async with self._turns.turn(share, estimated_tokens([job.query, *documents], info.max_length)):
            ranking = await self._models.client.rerank(
                job.query,
                documents,
                model=info.name,
                raw_scores=job.raw_scores,
                truncate=job.truncate or self._settings.truncate,
                timeout_s=self._settings.timeout_s,
                request_id=share.trace.request_id,
            )
        ranked = (Ranked(part[place], score) for place, score in ranking)
        return Ranking(ranked, ranking.tokens, ranking.raw_scores)

    async def _shortened(self, job: RerankJob, info: ModelInfo) -> list[str]:
        """Cut documents behind their last token that is to be read."""
        most, shortened = job.document_tokens, list(job.documents)
        if most is None or most >= info.max_length:
            return shortened
        # No token is shorter than a byte, so that most documents need not be tokenised to know that they are short.
        places = [place for place, document in enumerate(shortened) if len(document.encode()) > most]
        tokens = await self._models.client.tokens(
            [shortened[place] for place in places],
            model=info.name,
            prompt="",
            add_special_tokens=False,
            limit=most + 1,
            timeout_s=self._settings.timeout_s,
        )
        for place, row in zip(places, tokens, strict=True):
            shortened[place] = shortened[place][: row[most - 1].stop] if len(row) > most else shortened[place]
        return shortened

    def _check_count(self, count: int) -> None:
        if count > self._settings.max_inputs:
            msg = f"{count} documents are too many; send at most {self._settings.max_inputs} in one request"
            raise InvalidValueError(msg, param="documents")


def _merged(rankings: list[Ranking], top_n: int | None) -> Ranking:
    """One ranking of several, by raw scores."""
    pairs = chain.from_iterable(zip(ranking.raw_scores, ranking, strict=True) for ranking in rankings)
    best = sorted(pairs, key=lambda pair: (-pair[0], pair[1].index))[:top_n]
    tokens = sum(ranking.tokens for ranking in rankings)
    return Ranking((ranked for _, ranked in best), tokens, [raw for raw, _ in best])


def _parts(documents: list[str], info: ModelInfo) -> list[Sequence[int]]:
    """Split documents into calls, those of similar length together; in late interaction the query is a row too."""
    rows = max(1, info.max_rows - (info.task is Task.LATE_INTERACTION))
    if len(documents) <= rows:
        return [range(len(documents))]
    order = sorted(range(len(documents)), key=lambda index: len(documents[index]))
    return [order[begin : begin + rows] for begin in range(0, len(order), rows)]
