"""The one way from a query and documents to their ranking, whatever dialect asked."""

from dataclasses import dataclass
from time import perf_counter

from conch_client import AsyncClient, Ranking

from conch_gateway._admission import Admission
from conch_gateway._choice import RERANKING, choose_model
from conch_gateway._trace import Trace
from conch_gateway.errors import InvalidValueError
from conch_gateway.settings import GatewaySettings, Truncate


@dataclass(frozen=True, slots=True)
class RerankJob:
    """A query and documents; None leaves an option to the settings or the model, `top_n` None returns all."""

    query: str
    documents: list[str]
    model: str | None = None
    top_n: int | None = None
    raw_scores: bool = False
    truncate: Truncate | None = None


@dataclass(frozen=True, slots=True)
class Reranked:
    """The answer: pairs of index and score by descending score, and the number of real tokens computed."""

    model: str
    ranking: Ranking
    tokens: int


class Reranker:
    """Computes reranking jobs within the limits of the settings."""

    def __init__(self, settings: GatewaySettings, client: AsyncClient, admission: Admission) -> None:
        self._settings = settings
        self._client = client
        self._admission = admission

    async def rerank(self, job: RerankJob, trace: Trace) -> Reranked:
        """Compute one job and write what it took into the trace.

        Raises:
            InvalidValueError: too many documents.
            CapacityError: the gateway is full.
            ConchError: as the client raises them.
        """
        self._check_count(len(job.documents))
        name = self._settings.rerank_model if job.model is None else job.model
        info = await choose_model(self._client, name, RERANKING)
        trace.model, trace.texts = info.name, len(job.documents)
        with self._admission.admit(len(job.documents)):
            started = perf_counter()
            ranking = await self._client.rerank(
                job.query,
                job.documents,
                model=info.name,
                top_n=job.top_n,
                raw_scores=job.raw_scores,
                truncate=job.truncate or self._settings.truncate,
                timeout_s=self._settings.timeout_s,
            )
            trace.inference_s = perf_counter() - started
        trace.tokens = ranking.tokens
        return Reranked(info.name, ranking, ranking.tokens)

    def _check_count(self, count: int) -> None:
        if count > self._settings.max_inputs:
            msg = f"{count} documents are too many; send at most {self._settings.max_inputs} in one request"
            raise InvalidValueError(msg, param="documents")
