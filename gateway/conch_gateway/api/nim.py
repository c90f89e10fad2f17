"""`/v1/ranking` and `/v1/health/*`, as clients of NVIDIA NIM send them; its embeddings are OpenAI's."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway.api.fields.body import Example, RequestBody
from conch_gateway.api.fields.options import RerankingModel, TruncateOption, truncation
from conch_gateway.api.fields.texts import PassageField, PassagesField
from conch_gateway.api.route import Router, json_response, token_usage
from conch_gateway.api.services import Services
from conch_gateway.jobs import RerankJob
from conch_gateway.telemetry.request import context_of


class RankingRequest(RequestBody):
    """A query and passages, each an object with its `text`."""

    example: ClassVar[Example] = {
        "model": "all-minilm-l6-v2-maxsim",
        "query": {"text": "How do I reverse a list?"},
        "passages": [{"text": "list.reverse() reverses in place."}, {"text": "A tuple cannot be changed."}],
    }

    query: PassageField = Field(description="The query.")
    passages: PassagesField = Field(description="The passages to rank.")
    model: RerankingModel = None
    truncate: TruncateOption = None


class RankedPassage(BaseModel):
    """One passage, by its place in the request, and its score as the model gives it."""

    index: int
    logit: float


class RankingResponse(BaseModel):
    """The ranking, best first."""

    rankings: list[RankedPassage]
    usage: dict[str, int]


class HealthMessage(BaseModel):
    """Health in words."""

    object: Literal["health.response"]
    message: str


def router(services: Services) -> Router:
    """Return the routes of this dialect."""
    routes = Router()

    @routes.on_post("/v1/ranking", RankingRequest, RankingResponse, "Rank passages, as NIM does", tags=["rerank"])
    async def rank(body: RankingRequest, request: Request) -> Any:
        job = RerankJob(body.query, body.passages, body.model, raw_scores=True, truncate=truncation(body.truncate))
        result = await services.inference.rerank(job, context_of(request))
        rankings = [{"index": ranked.index, "logit": ranked.score} for ranked in result.given]
        return {"rankings": rankings, "usage": token_usage(result.usage.tokens)}

    @routes.route(
        "/v1/health/live",
        tags=["operations"],
        summary="Is the gateway running, as NIM says it",
        responses={200: {"model": HealthMessage}},
    )
    async def live(_: Request) -> Any:
        return {"object": "health.response", "message": "Service is live."}

    @routes.route(
        "/v1/health/ready",
        tags=["operations"],
        summary="Would requests be answered, as NIM says it",
        responses={200: {"model": HealthMessage}, 503: {"model": HealthMessage}},
    )
    async def ready(_: Request) -> Response:
        verdict = await services.readiness.verdict()
        status, message = (200, "Service is ready.") if verdict.ready else (503, "Service is not ready.")
        return json_response({"object": "health.response", "message": message}, status=status)

    return routes
