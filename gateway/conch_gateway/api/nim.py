"""`/v1/ranking` and `/v1/health/*`, as clients of NVIDIA NIM speak them; its embeddings are OpenAI's."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway.api.fields.body import RequestBody, read_body
from conch_gateway.api.fields.options import RerankingModel, TruncationField, truncation
from conch_gateway.api.fields.texts import PassageField, PassagesField
from conch_gateway.api.route import Route, errors, json_response, takes
from conch_gateway.inference.service import Inference
from conch_gateway.jobs import RerankJob
from conch_gateway.models.readiness import Readiness
from conch_gateway.telemetry.request import context_of

_EXAMPLE = {
    "model": "all-minilm-l6-v2-maxsim",
    "query": {"text": "How do I reverse a list?"},
    "passages": [{"text": "list.reverse() reverses in place."}, {"text": "A tuple cannot be changed."}],
}


class RankingRequest(RequestBody):
    """A query and passages, each an object with its `text`."""

    query: PassageField = Field(description="What the passages are ranked for.")
    passages: PassagesField = Field(description="What is ranked.")
    model: RerankingModel = None
    truncate: TruncationField | None = Field(
        None, description="What to cut beyond the model's limit: NONE (answer 400), START, END."
    )


class RankedPassage(BaseModel):
    """One passage, by its place in the request, and its score as the model gives it."""

    index: int
    logit: float


class RankingResponse(BaseModel):
    """The ranking, best first."""

    rankings: list[RankedPassage]
    usage: dict[str, int]


class HealthMessage(BaseModel):
    """Whether it is well, in words."""

    object: Literal["health.response"]
    message: str


def router(service: Inference, readiness: Readiness) -> APIRouter:
    """Return the routes of this dialect."""
    routes = APIRouter(route_class=Route)

    @routes.post(
        "/v1/ranking",
        tags=["rerank"],
        summary="Rank passages, as NIM does",
        responses={200: {"model": RankingResponse}, **errors()},
        openapi_extra=takes(RankingRequest, _EXAMPLE),
    )
    async def rank(request: Request) -> Response:
        body = await read_body(request, RankingRequest)
        job = RerankJob(
            query=body.query,
            documents=body.passages,
            model=body.model,
            raw_scores=True,
            truncate=truncation(body.truncate),
        )
        reranked = await service.rerank(job, context_of(request))
        rankings = [{"index": ranked.index, "logit": ranked.score} for ranked in reranked.given]
        usage = {"prompt_tokens": reranked.usage.tokens, "total_tokens": reranked.usage.tokens}
        return json_response({"rankings": rankings, "usage": usage})

    @routes.get(
        "/v1/health/live",
        tags=["operations"],
        summary="Is the gateway running, as NIM says it",
        responses={200: {"model": HealthMessage}},
    )
    async def live(_: Request) -> Response:
        return json_response({"object": "health.response", "message": "Service is live."})

    @routes.get(
        "/v1/health/ready",
        tags=["operations"],
        summary="Would requests be answered, as NIM says it",
        responses={200: {"model": HealthMessage}, 503: {"model": HealthMessage}},
    )
    async def ready(_: Request) -> Response:
        verdict = await readiness.verdict()
        status, message = (200, "Service is ready.") if verdict.ready else (503, "Service is not ready.")
        return json_response({"object": "health.response", "message": message}, status=status)

    return routes
