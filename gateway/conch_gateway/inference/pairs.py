"""Scores of pairs of texts, computed by the ranking of the backend."""

from __future__ import annotations

from conch_client import InvalidInputError, ModelInfo, Ranked

from conch_gateway.backends.backend import Backend
from conch_gateway.concurrency import all_of
from conch_gateway.jobs import Answer, PairJob, RerankJob
from conch_gateway.scheduling.admission import Reservation


async def pair_scores(job: PairJob, info: ModelInfo, backend: Backend, reservation: Reservation) -> Answer[list[float]]:
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
            answer = await backend.rerank(info, question, reservation)
        except InvalidInputError as error:
            raise error.moved(groups[query]) from error
        for ranked in answer.given:
            scores[groups[query][ranked.index]] = ranked.score
        return answer

    answers = await all_of(rank, list(groups))
    tokens, truncated = sum(each.tokens for each in answers), sum(each.truncated for each in answers)
    return Answer(scores, tokens, truncated=truncated)
