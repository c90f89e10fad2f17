"""`/rerank`, `/v1/rerank`, `/v2/rerank`: one superset of Cohere's, Jina's, TEI's, infinity's, vLLM's and Voyage's."""

import math
from typing import Any, Literal

from conch_client import Ranked
from fastapi import APIRouter
from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway._body import RequestBody, read_body
from conch_gateway._fields import DocumentsField, Name, TruncationField
from conch_gateway._openapi import ERRORS, takes
from conch_gateway._route import Route, json_response
from conch_gateway._trace import trace_of
from conch_gateway.reranking import Reranked, Reranker, RerankJob
from conch_gateway.settings import Truncate

_DOCUMENTS_PER_SEARCH_UNIT = 100  # Cohere's definition of its billing unit


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
    truncation_direction: Literal["Left", "Right"] = Field(
        "Right", description="TEI's: Left makes `truncate: true` cut the start."
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
            truncate=self._truncation(),
        )

    def _truncation(self) -> Truncate | None:
        if isinstance(self.truncate, str) or self.truncate is None:
            return self.truncate
        if not self.truncate:
            return "none"
        return "start" if self.truncation_direction == "Left" else "end"


class RerankedDocument(BaseModel):
    """The text of a document, on request."""

    text: str


class RerankResult(BaseModel):
    """One document, by its place in the request."""

    index: int
    relevance_score: float
    document: RerankedDocument | None = None


class RerankResponse(BaseModel):
    """The ranking, best first; `/rerank` answers requests with `texts` as TEI does, with the bare list."""

    id: str
    model: str
    results: list[RerankResult]
    usage: dict[str, int]
    meta: dict[str, Any]


def router(reranker: Reranker) -> APIRouter:
    """Return the routes of this resource."""
    routes = APIRouter(route_class=Route, tags=["rerank"])

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
        return json_response(_envelope(reranked, job, shown, trace.request_id, version))

    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        routes.add_api_route(
            path,
            rerank,
            methods=["POST"],
            summary="Rank documents for a query",
            responses={200: {"model": RerankResponse}, **ERRORS},
            openapi_extra=takes(RerankRequest),
        )
    return routes


def _envelope(
    reranked: Reranked, job: RerankJob, shown: list[str] | None, request_id: str, version: str
) -> dict[str, Any]:
    search_units = math.ceil(len(job.documents) / _DOCUMENTS_PER_SEARCH_UNIT)
    return {
        "id": request_id,
        "model": reranked.model,
        "results": [_item(ranked, shown) for ranked in reranked.ranking],
        "usage": {"prompt_tokens": reranked.tokens, "total_tokens": reranked.tokens},
        "meta": {"api_version": {"version": version}, "billed_units": {"search_units": search_units}},
    }


def _item(ranked: Ranked, shown: list[str] | None) -> dict[str, Any]:
    item: dict[str, Any] = {"index": ranked.index, "relevance_score": ranked.score}
    return item if shown is None else {**item, "document": {"text": shown[ranked.index]}}


def _tei_item(ranked: Ranked, shown: list[str] | None) -> dict[str, Any]:
    item: dict[str, Any] = {"index": ranked.index, "score": ranked.score}
    return item if shown is None else {**item, "text": shown[ranked.index]}
