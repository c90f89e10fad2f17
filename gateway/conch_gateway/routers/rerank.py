"""`/rerank`, `/v1/rerank`, `/v2/rerank`: one superset of Cohere's, Jina's, TEI's, infinity's, vLLM's and Voyage's.

The paths differ in how they speak of errors, and `/rerank` answers `texts` as TEI does.
"""

import math
from typing import Any, Literal

from conch_client import Ranked
from fastapi import APIRouter
from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway._body import RequestBody, read_body
from conch_gateway._dialects import CohereRoute, JinaRoute, TeiRoute
from conch_gateway._fields import Direction, DocumentsField, Name, TruncationField, truncation
from conch_gateway._jobs import RerankJob
from conch_gateway._openapi import errors, takes
from conch_gateway._route import Route, json_response
from conch_gateway._trace import trace_of
from conch_gateway.reranking import Reranked, Reranker

_DOCUMENTS_PER_SEARCH_UNIT = 100  # Cohere's definition of its billing unit
_EXAMPLE = {
    "model": "all-minilm-l6-v2-maxsim",
    "query": "How do I reverse a list?",
    "documents": ["list.reverse() reverses in place.", "A tuple cannot be changed."],
    "top_n": 1,
}
_DIALECTS: dict[str, type[Route]] = {"/rerank": TeiRoute, "/v1/rerank": JinaRoute, "/v2/rerank": CohereRoute}


class RerankRequest(RequestBody):
    """Exactly one of `documents` and `texts`; other servers' further fields are ignored."""

    query: str = Field(min_length=1, description="What the documents are ranked for.")
    documents: DocumentsField | None = Field(None, description="Documents: strings, or objects with a `text`.")
    texts: DocumentsField | None = Field(None, description="TEI's name for `documents`.")
    model: Name | None = Field(None, description="Id of a reranking model; may be left out where there is one.")
    top_n: int | None = Field(None, ge=0, description="How many of the best to return; 0 or nothing returns all.")
    top_k: int | None = Field(None, ge=0, description="Voyage's name for `top_n`.")
    return_documents: bool = Field(default=False, description="Put each document's text beside its score.")
    return_text: bool = Field(default=False, description="TEI's name for `return_documents`.")
    raw_scores: bool = Field(default=False, description="Scores as the model gives them, not squeezed into 0..1.")
    truncate: TruncationField | None = Field(
        None, description="What to cut beyond the model's limit: none, start, end; TEI's true and false mean end, none."
    )
    truncation_direction: Direction = Field("Right", description="TEI's: Left makes `truncate: true` cut the start.")

    truncation: bool | None = Field(
        None, description="Voyage's name for `truncate`; who sends it is answered as Voyage does, with `data`."
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> "RerankRequest":
        for one, other in (("documents", "texts"), ("top_n", "top_k")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise PydanticCustomError("invalid_value", f"send {one} or {other}, not both")
        if self.documents is None and self.texts is None:
            raise PydanticCustomError("missing", "documents: Field required")
        return self

    def job(self) -> RerankJob:
        """Return the request without its dialects' synonyms."""
        return RerankJob(
            query=self.query,
            documents=self.documents or self.texts or [],
            model=self.model,
            top_n=self.top_n or self.top_k or None,
            raw_scores=self.raw_scores,
            truncate=truncation(self.truncation if self.truncate is None else self.truncate, self.truncation_direction),
        )


class RerankedDocument(BaseModel):
    """The text of a document, on request."""

    text: str


class RerankResult(BaseModel):
    """One document, by its place in the request."""

    index: int
    relevance_score: float
    document: RerankedDocument | None = None


class TeiRerankResult(BaseModel):
    """One document as TEI tells it."""

    index: int
    score: float
    text: str | None = None


class RerankResponse(BaseModel):
    """The ranking, best first: as `results`, or as `data` for Voyage's clients."""

    id: str
    model: str
    results: list[RerankResult] | None = None
    object: Literal["list"] | None = None
    data: list[RerankResult] | None = None
    usage: dict[str, int]
    meta: dict[str, Any]


def router(reranker: Reranker) -> APIRouter:
    """Return the routes of this resource."""
    routes = APIRouter(tags=["rerank"])

    async def rerank(request: Request) -> Response:
        body = await read_body(request, RerankRequest)
        trace = trace_of(request)
        job = body.job()
        reranked = await reranker.rerank(job, trace)
        shown = job.documents if body.return_documents or body.return_text else None
        path = request.scope["route"].path
        if body.texts is not None and path == "/rerank":
            return json_response([_tei_item(ranked, shown) for ranked in reranked.ranking])
        version = "1" if path == "/v1/rerank" else "2"
        results = [_item(ranked, shown) for ranked in reranked.ranking]
        named = {"results": results} if body.truncation is None else {"object": "list", "data": results}
        return json_response({**named, **_envelope(reranked, job, trace.request_id, version)})

    for path, dialect in _DIALECTS.items():
        routes.add_api_route(
            path,
            rerank,
            methods=["POST"],
            summary="Rank documents for a query",
            responses={200: {"model": _answer_model(path)}, **errors(dialect)},
            openapi_extra=takes(RerankRequest, _EXAMPLE),
            route_class_override=dialect,
        )
    return routes


def _answer_model(path: str) -> Any:
    return RerankResponse | list[TeiRerankResult] if path == "/rerank" else RerankResponse


def _envelope(reranked: Reranked, job: RerankJob, request_id: str, version: str) -> dict[str, Any]:
    search_units = math.ceil(len(job.documents) / _DOCUMENTS_PER_SEARCH_UNIT)
    return {
        "id": request_id,
        "model": reranked.model,
        "usage": {"prompt_tokens": reranked.tokens, "total_tokens": reranked.tokens},
        "meta": {"api_version": {"version": version}, "billed_units": {"search_units": search_units}},
    }


def _item(ranked: Ranked, shown: list[str] | None) -> dict[str, Any]:
    item: dict[str, Any] = {"index": ranked.index, "relevance_score": ranked.score}
    return item if shown is None else {**item, "document": {"text": shown[ranked.index]}}


def _tei_item(ranked: Ranked, shown: list[str] | None) -> dict[str, Any]:
    item: dict[str, Any] = {"index": ranked.index, "score": ranked.score}
    return item if shown is None else {**item, "text": shown[ranked.index]}
