"""`/rerank`, `/v1/rerank`, `/v2/rerank`: one superset of Cohere's, Jina's, TEI's, infinity's, vLLM's and Voyage's.

The paths differ in how they speak of errors, and `/rerank` answers `texts` as TEI does. Everybody else gets the ranking
twice: as `results`, with documents as objects, and (but for `/v2/rerank`, which is not theirs) as `data`, where
Voyage's clients look for it, with documents as strings. Jina and vLLM give documents back unless asked not to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from conch_client import Ranked
from fastapi import APIRouter
from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway.api.cohere import CohereRoute
from conch_gateway.api.embeddings import SharedRoute
from conch_gateway.api.fields.body import read_body, wrong_type
from conch_gateway.api.fields.options import (
    Direction,
    Flag,
    Name,
    RawScores,
    RerankingModel,
    ScoreOptions,
    TruncationField,
    TruncationOptions,
    Unserved,
    truncation,
)
from conch_gateway.api.fields.texts import Document, DocumentsField, document_texts
from conch_gateway.api.route import Route, errors, json_response, takes
from conch_gateway.api.tei import TeiRoute
from conch_gateway.inference.service import Inference, Result
from conch_gateway.jobs import RerankJob
from conch_gateway.telemetry.request import context_of

_DOCUMENTS_PER_SEARCH_UNIT = 100  # Cohere's definition of its billing unit
_EXAMPLE = {
    "model": "all-minilm-l6-v2-maxsim",
    "query": "How do I reverse a list?",
    "documents": ["list.reverse() reverses in place.", "A tuple cannot be changed."],
    "top_n": 1,
}
_DIALECTS: dict[str, type[Route]] = {"/rerank": TeiRoute, "/v1/rerank": SharedRoute, "/v2/rerank": CohereRoute}


class RerankRequest(ScoreOptions, TruncationOptions):
    """Exactly one of `documents` and `texts`; other servers' further fields are ignored."""

    synonyms = (("top_n", "top_k"),)
    needed = (("documents", "texts"),)

    query: str = Field(min_length=1, description="What the documents are ranked for.")
    documents: DocumentsField | None = Field(
        None, description="Documents: strings, or objects with a `text` or what rank_fields names."
    )
    texts: DocumentsField | None = Field(None, description="TEI's name for `documents`.")
    model: RerankingModel = None
    top_n: int | None = Field(None, ge=0, description="How many of the best to return; 0 or nothing returns all.")
    top_k: int | None = Field(None, ge=0, description="Voyage's name for `top_n`.")
    rank_fields: list[Name] | None = Field(
        None, min_length=1, max_length=64, description="Cohere's: the fields of documents that are read, in this order."
    )
    max_tokens_per_doc: int | None = Field(
        None, ge=1, description="Cohere's: what a document has beyond so many tokens is not read."
    )
    max_chunks_per_doc: Annotated[
        Any, Unserved("Cohere's", "not served: documents are cut, not split; leave it out", taken=(1,))
    ] = None
    relevant_spans: Annotated[Any, Unserved("Cohere's", "not served; leave it out")] = None
    return_documents: Flag | None = Field(
        None, description="Whether each document stands beside its score. Where left out, as the path's owners do."
    )
    return_text: Flag | None = Field(None, description="TEI's name for `return_documents`.")
    raw_scores: RawScores = False
    truncate: TruncationField | None = Field(
        None, description="What to cut beyond the model's limit: none, start, end; TEI's true and false mean end, none."
    )
    truncation_direction: Direction = Field("Right", description="TEI's: Left makes `truncate: true` cut the start.")
    truncation: Flag | None = Field(None, description="Voyage's name for `truncate`.")

    @model_validator(mode="after")
    def _can_be_read(self) -> RerankRequest:
        self.read()
        return self

    @property
    def listed(self) -> list[Document]:
        """The documents as they came."""
        return self.documents or self.texts or []

    @property
    def gives_documents(self) -> bool | None:
        """Whether documents are wanted back; None where nothing is said of it."""
        return self.return_text if self.return_documents is None else self.return_documents

    @property
    def is_voyages(self) -> bool:
        """Whether a field says that the dialect is Voyage's."""
        return self.top_k is not None or self.truncation is not None

    def read(self) -> list[str]:
        """Return what is read of each document."""
        try:
            return document_texts(self.listed, self.rank_fields or ("text",))
        except PydanticCustomError as error:
            raise wrong_type(f"{'texts' if self.documents is None else 'documents'}: {error}") from error

    def job(self) -> RerankJob:
        """Return the request without its dialects' synonyms."""
        return RerankJob(
            query=self.query,
            documents=self.read(),
            model=self.model,
            top_n=self.top_n or self.top_k or None,
            raw_scores=self.raw_scores or self.leaves_raw,
            truncate=truncation(self.truncation if self.truncate is None else self.truncate, self.truncation_direction)
            or self.cut,
            document_tokens=self.max_tokens_per_doc,
        )


class RerankResult(BaseModel):
    """One document, by its place in the request."""

    index: int
    relevance_score: float
    document: dict[str, Any] | None = Field(None, description="The document: its text, or the object that was sent.")


class VoyageRerankResult(BaseModel):
    """One document as Voyage tells it."""

    index: int
    relevance_score: float
    document: str | None = None


class TeiRerankResult(BaseModel):
    """One document as TEI tells it."""

    index: int
    score: float
    text: str | None = None


class RerankResponse(BaseModel):
    """The ranking, best first: as `results`, and the same as `data` for Voyage's clients."""

    id: str
    model: str
    results: list[RerankResult]
    object: Literal["list"] | None = None
    data: list[VoyageRerankResult] | None = None
    usage: dict[str, int]
    meta: dict[str, Any]


def router(service: Inference) -> APIRouter:
    """Return the routes of this resource."""
    routes = APIRouter(tags=["rerank"])

    async def rerank(request: Request) -> Response:
        body = await read_body(request, RerankRequest)
        context = context_of(request)
        job = body.job()
        reranked = await service.rerank(job, context)
        path = request.scope["route"].path
        if body.texts is not None and path == "/rerank":
            return json_response(_items(reranked, "score", "text", job.documents if body.gives_documents else None))
        version = "1" if path == "/v1/rerank" else "2"
        content = {"results": _results(body, reranked, path), **_envelope(reranked, job, context.request_id, version)}
        if path != "/v2/rerank":
            shown = job.documents if body.gives_documents else None
            content |= {"object": "list", "data": _items(reranked, "relevance_score", "document", shown)}
        return json_response(content)

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


def _envelope(reranked: Result[list[Ranked]], job: RerankJob, request_id: str, version: str) -> dict[str, Any]:
    search_units = math.ceil(len(job.documents) / _DOCUMENTS_PER_SEARCH_UNIT)
    return {
        "id": request_id,
        "model": reranked.model,
        "usage": {"prompt_tokens": reranked.usage.tokens, "total_tokens": reranked.usage.tokens},
        "meta": {"api_version": {"version": version}, "billed_units": {"search_units": search_units}},
    }


def _results(body: RerankRequest, reranked: Result[list[Ranked]], path: str) -> list[dict[str, Any]]:
    shown = body.gives_documents
    if shown is None:  # Jina and vLLM give them back, TEI, Voyage and Cohere do not
        shown = body.texts is None and not body.is_voyages and path != "/v2/rerank"
    objects = [{"text": document} if isinstance(document, str) else document for document in body.listed]
    return _items(reranked, "relevance_score", "document", objects if shown else None)


def _items(
    reranked: Result[list[Ranked]], score: str, document: str, shown: Sequence[Any] | None
) -> list[dict[str, Any]]:
    """Return the ranking in a dialect's words for the score and the document, with the documents that are shown."""
    return [
        {"index": one.index, score: one.score, **({} if shown is None else {document: shown[one.index]})}
        for one in reranked.given
    ]
