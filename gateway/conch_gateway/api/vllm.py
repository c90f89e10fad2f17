"""`/score`, `/v1/score` and `/pooling`, as vLLM's clients speak them; its other dialects are OpenAI's and Cohere's."""

from __future__ import annotations

import time
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway.api.fields.body import invalid, read_body
from conch_gateway.api.fields.options import (
    Dimensions,
    EmbeddingModel,
    RerankingModel,
    ScoreOptions,
    TruncationOptions,
    VectorOptions,
)
from conch_gateway.api.fields.texts import StringsField, TextsField
from conch_gateway.api.route import Route, errors, json_response, takes
from conch_gateway.inference.service import Inference, Result
from conch_gateway.jobs import EmbeddingJob, PairJob
from conch_gateway.telemetry.request import context_of

_SCORE_EXAMPLE = {
    "model": "all-minilm-l6-v2-maxsim",
    "text_1": "How do I reverse a list?",
    "text_2": ["list.reverse() reverses in place.", "A tuple cannot be changed."],
}
_POOLING_EXAMPLE = {"model": "all-minilm-l6-v2", "input": "How do I reverse a list?"}


class ScoreRequest(ScoreOptions, TruncationOptions):
    """One text with each of several, or as many with as many, pairwise."""

    needed = (("text_1", "queries"), ("text_2", "documents"))

    text_1: StringsField | None = Field(None, description="The query, or one for each of `text_2`.")
    text_2: StringsField | None = Field(None, description="What is scored for it.")
    queries: StringsField | None = Field(None, description="Another name for `text_1`.")
    documents: StringsField | None = Field(None, description="Another name for `text_2`.")
    model: RerankingModel = None

    @model_validator(mode="after")
    def _can_be_paired(self) -> ScoreRequest:
        if len(self._left) not in {1, len(self._right)}:
            raise invalid("text_1 must be one text, or as many as text_2: they are paired in order")
        return self

    @property
    def _left(self) -> list[str]:
        return self.text_1 or self.queries or []

    @property
    def _right(self) -> list[str]:
        return self.text_2 or self.documents or []

    def job(self) -> PairJob:
        """Return the request in the gateway's own words."""
        left = self._left * len(self._right) if len(self._left) == 1 else self._left
        return PairJob(
            pairs=list(zip(left, self._right, strict=True)),
            model=self.model,
            raw_scores=self.leaves_raw,
            truncate=self.cut,
        )


class PoolingRequest(VectorOptions, TruncationOptions):
    """Texts, and whether to pool their token vectors."""

    input: TextsField = Field(description="Text or texts, or their token ids (special tokens included).")
    model: EmbeddingModel = None
    task: Literal["embed", "token_embed"] = Field(
        "embed", description="One vector for each text, or one for each of its tokens."
    )
    dimensions: Dimensions = None

    def job(self) -> EmbeddingJob:
        """Return the request in the gateway's own words."""
        return EmbeddingJob(
            texts=self.input,
            model=self.model,
            dimensions=self.dimensions,
            truncate=self.cut,
            normalize=self.unit_length,
        )


class Score(BaseModel):
    """The score of one pair."""

    index: int
    object: Literal["score"]
    score: float


class Pooled(BaseModel):
    """What became of one text."""

    index: int
    object: Literal["pooling"]
    data: list[float] | list[list[float]] | str


class VllmResponse(BaseModel):
    """What all answers share."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    usage: dict[str, int]


class ScoreResponse(VllmResponse):
    """The scores, in the order of the pairs."""

    data: list[Score]


class PoolingResponse(VllmResponse):
    """The vectors, in the order of the texts."""

    data: list[Pooled]


def router(service: Inference) -> APIRouter:
    """Return the routes of this dialect."""
    routes = APIRouter(route_class=Route)

    async def score(request: Request) -> Response:
        body = await read_body(request, ScoreRequest)
        scored = await service.score(body.job(), context_of(request))
        data = [{"index": index, "object": "score", "score": score} for index, score in enumerate(scored.given)]
        return _response(request, scored.model, scored.usage.tokens, data)

    for path in ("/score", "/v1/score"):
        routes.add_api_route(
            path,
            score,
            methods=["POST"],
            tags=["rerank"],
            summary="Score pairs of texts, as vLLM does",
            responses={200: {"model": ScoreResponse}, **errors()},
            openapi_extra=takes(ScoreRequest, _SCORE_EXAMPLE),
        )

    @routes.post(
        "/pooling",
        tags=["embeddings"],
        summary="Embed texts or their tokens, as vLLM does",
        responses={200: {"model": PoolingResponse}, **errors()},
        openapi_extra=takes(PoolingRequest, _POOLING_EXAMPLE),
    )
    async def pool(request: Request) -> Response:
        body = await read_body(request, PoolingRequest)
        job, context = body.job(), context_of(request)
        computed: Result[Any] = await (
            service.embed_tokens(job, context) if body.task == "token_embed" else service.embed(job, context)
        )
        rows = enumerate(body.packed(computed.given))
        data = [{"index": index, "object": "pooling", "data": row} for index, row in rows]
        return _response(request, computed.model, computed.usage.tokens, data)

    return routes


def _response(request: Request, model: str, tokens: int, data: list[dict[str, Any]]) -> Response:
    content = {
        "id": context_of(request).request_id,
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return json_response(content)
