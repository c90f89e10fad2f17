"""`/score`, `/v1/score` and `/pooling`, as vLLM's clients send them; its other paths are OpenAI's and Cohere's."""

from __future__ import annotations

import time
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, model_validator
from starlette.requests import Request

from conch_gateway.api.fields import options
from conch_gateway.api.fields.body import Example, invalid, optional
from conch_gateway.api.fields.texts import StringsField, TextsField
from conch_gateway.api.route import Router, token_usage
from conch_gateway.api.services import Services
from conch_gateway.inference.service import Result
from conch_gateway.jobs import EmbeddingJob, PairJob
from conch_gateway.telemetry.request import context_of

_SCORE = "Score pairs of texts, as vLLM does"
_POOL = "Embed texts or their tokens, as vLLM does"


class ScoreRequest(options.ScoreOptions, options.InstructionOptions, options.TruncationOptions):
    """One text with each of several, or as many with as many, pairwise."""

    example: ClassVar[Example] = {
        "model": "all-minilm-l6-v2-maxsim",
        "text_1": "How do I reverse a list?",
        "text_2": ["list.reverse() reverses in place.", "A tuple cannot be changed."],
    }
    needed = (("text_1", "queries"), ("text_2", "documents"))

    text_1: StringsField | None = optional("The query, or one for each of `text_2`.")
    text_2: StringsField | None = optional("The documents to score for it.")
    queries: StringsField | None = optional("Another name for `text_1`.")
    documents: StringsField | None = optional("Another name for `text_2`.")
    model: options.RerankingModel = None

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
        """Return the job that the request describes."""
        left = self._left * len(self._right) if len(self._left) == 1 else self._left
        return PairJob(
            pairs=list(zip(left, self._right, strict=True)),
            model=self.model,
            raw_scores=self.leaves_raw,
            truncate=self.cut,
            instruction=self.stated_instruction,
        )


class PoolingRequest(options.VectorOptions, options.TruncationOptions):
    """Texts, and whether to pool their token vectors."""

    example: ClassVar[Example] = {"model": "all-minilm-l6-v2", "input": "How do I reverse a list?"}

    input: TextsField = Field(description="Text or texts, or their token ids (special tokens included).")
    model: options.EmbeddingModel = None
    task: Literal["embed", "token_embed"] = Field(
        "embed", description="One vector for each text, or one for each of its tokens."
    )
    dimensions: options.Dimensions = None

    def job(self) -> EmbeddingJob:
        """Return the job that the request describes."""
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
    """The vectors of one text."""

    index: int
    object: Literal["pooling"]
    data: list[float] | list[list[float]] | str


class VllmResponse(BaseModel):
    """Fields of all answers."""

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


def router(services: Services) -> Router:
    """Return the routes of this dialect."""
    routes = Router()
    inference = services.inference

    @routes.on_post("/v1/score", ScoreRequest, ScoreResponse, _SCORE, tags=["rerank"])
    @routes.on_post("/score", ScoreRequest, ScoreResponse, _SCORE, tags=["rerank"])
    async def score(body: ScoreRequest, request: Request) -> Any:
        result = await inference.score(body.job(), context_of(request))
        data = [{"index": index, "object": "score", "score": score} for index, score in enumerate(result.given)]
        return _content(request, result, data)

    @routes.on_post("/pooling", PoolingRequest, PoolingResponse, _POOL, tags=["embeddings"])
    async def pool(body: PoolingRequest, request: Request) -> Any:
        embed = inference.embed_tokens if body.task == "token_embed" else inference.embed
        result: Result[Any] = await embed(body.job(), context_of(request))
        rows = enumerate(body.packed(result.given))
        return _content(request, result, [{"index": index, "object": "pooling", "data": row} for index, row in rows])

    return routes


def _content(request: Request, result: Result[Any], data: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": context_of(request).request_id,
        "object": "list",
        "created": int(time.time()),
        "model": result.model,
        "data": data,
        "usage": token_usage(result.usage.tokens),
    }
