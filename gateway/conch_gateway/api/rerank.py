"""`/rerank`, `/v1/rerank`, `/v2/rerank`: one superset of Cohere's, Jina's, TEI's, infinity's, vLLM's and Voyage's.

The paths differ in their error bodies, and `/rerank` answers `texts` as TEI does. All other answers have the ranking as
`results`, with documents as objects, and, except on Cohere's `/v2/rerank`, once more as `data` with documents as
strings, where Voyage's clients read it. Jina and vLLM return documents unless the request says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from conch_client import Ranked
from pydantic import BaseModel, Field
from pydantic_core import PydanticCustomError
from starlette.requests import Request

from conch_gateway.api.cohere import CohereRoute
from conch_gateway.api.fields import options
from conch_gateway.api.fields.body import Example, optional
from conch_gateway.api.fields.texts import Document, DocumentsField, document_texts
from conch_gateway.api.openai import SharedRoute
from conch_gateway.api.route import Router, token_usage
from conch_gateway.api.services import Services
from conch_gateway.api.tei import TeiRoute
from conch_gateway.errors import WrongTypeError
from conch_gateway.inference.service import Inference
from conch_gateway.jobs import RerankJob
from conch_gateway.telemetry.request import RequestContext, context_of

_DOCUMENTS_PER_SEARCH_UNIT = 100  # Cohere's definition of its billing unit
_SUMMARY = "Rank documents for a query"


class RerankRequest(options.ScoreOptions, options.InstructionOptions, options.TruncationOptions):
    """Exactly one of `documents` and `texts`; other servers' further fields are ignored."""

    example: ClassVar[Example] = {
        "model": "all-minilm-l6-v2-maxsim",
        "query": "How do I reverse a list?",
        "documents": ["list.reverse() reverses in place.", "A tuple cannot be changed."],
        "top_n": 1,
    }
    synonyms = (("top_n", "top_k"), ("instruction", "instruct"))
    needed = (("documents", "texts"),)

    query: str = Field(min_length=1, description="The query.")
    documents: DocumentsField | None = optional(
        "Documents: strings, or objects with a `text` or what rank_fields names."
    )
    texts: DocumentsField | None = optional("TEI's name for `documents`.")
    model: options.RerankingModel = None
    top_n: int | None = optional("How many of the best to return; 0 or nothing returns all.", ge=0)
    top_k: int | None = optional("Voyage's name for `top_n`.", ge=0)
    rank_fields: list[options.Name] | None = optional(
        "Cohere's: the fields of documents that are read, in this order.", min_length=1, max_length=64
    )
    max_tokens_per_doc: int | None = optional("Cohere's: most tokens of a document; the rest is not read.", ge=1)
    max_chunks_per_doc: int | None = optional(
        "Cohere's: most parts that a document is read in if the model cannot read it at once; its score is the best of "
        "theirs. Without it such a document is cut.",
        ge=1,
        le=1024,
    )
    relevant_spans: Annotated[Any, options.Unserved("Cohere's", "leave it out")] = None
    return_documents: options.Flag | None = optional(
        "Whether each document stands beside its score. Where left out, as the path's owners do."
    )
    return_text: options.Flag | None = optional("TEI's name for `return_documents`.")
    raw_scores: options.RawScores = False
    truncate: options.TruncateOption = None
    truncation_direction: options.Direction = None
    truncation: options.Flag | None = optional("Voyage's name for `truncate`.")

    @property
    def listed(self) -> list[Document]:
        """The documents as they came."""
        return self.documents or self.texts or []

    @property
    def gives_documents(self) -> bool | None:
        """Whether the answer has the documents; None where the request does not say."""
        return self.return_text if self.return_documents is None else self.return_documents

    @property
    def is_voyages(self) -> bool:
        """Whether the request has a field that only Voyage's clients send."""
        return self.top_k is not None or self.truncation is not None

    def read(self) -> list[str]:
        """Return the text of each document; raises WrongTypeError for one without."""
        try:
            # Each once: a text that is named over and over would take many times the memory of the body.
            return document_texts(self.listed, tuple(dict.fromkeys(self.rank_fields or ("text",))))
        except PydanticCustomError as error:
            name = "texts" if self.documents is None else "documents"
            raise WrongTypeError(f"{name}: {error}", param=name) from error

    def job(self) -> RerankJob:
        """Return the job that the request describes, without synonyms."""
        return RerankJob(
            query=self.query,
            documents=self.read(),
            model=self.model,
            top_n=self.top_n or self.top_k or None,
            raw_scores=self.raw_scores or self.leaves_raw,
            truncate=options.truncation(
                self.truncation if self.truncate is None else self.truncate, self.truncation_direction
            )
            or self.cut,
            document_tokens=self.max_tokens_per_doc,
            document_parts=self.max_chunks_per_doc or 1,
            instruction=self.stated_instruction,
        )


class RerankResult(BaseModel):
    """One document, by its place in the request."""

    index: int
    relevance_score: float
    document: dict[str, Any] | None = optional("The document: its text, or the object that was sent.")


class VoyageRerankResult(BaseModel):
    """One document as Voyage returns it."""

    index: int
    relevance_score: float
    document: str | None = None


class TeiRerankResult(BaseModel):
    """One document as TEI returns it."""

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


def router(services: Services) -> Router:
    """Return the routes of all rankings."""
    routes = Router(tag="rerank")

    @routes.on_post("/v2/rerank", RerankRequest, RerankResponse, _SUMMARY, dialect=CohereRoute)
    @routes.on_post("/v1/rerank", RerankRequest, RerankResponse, _SUMMARY, dialect=SharedRoute)
    @routes.on_post("/rerank", RerankRequest, RerankResponse | list[TeiRerankResult], _SUMMARY, dialect=TeiRoute)
    async def rerank(body: RerankRequest, request: Request) -> Any:
        return await ranking(services.inference, body, context_of(request), request.scope["route"].path)

    return routes


async def ranking(inference: Inference, body: RerankRequest, context: RequestContext, path: str) -> Any:
    """Return the content of the answer to a request at a path."""
    job = body.job()
    result = await inference.rerank(job, context)
    shown = job.documents if body.gives_documents else None
    if body.texts is not None and path == "/rerank":
        return _items(result.given, "score", "text", shown)
    version = "1" if path == "/v1/rerank" else "2"
    search_units = math.ceil(len(job.documents) / _DOCUMENTS_PER_SEARCH_UNIT)
    meta = {"api_version": {"version": version}, "billed_units": {"search_units": search_units}}
    content = {
        "results": _items(result.given, "relevance_score", "document", _result_documents(body, path)),
        "id": context.request_id,
        "model": result.model,
        "usage": token_usage(result.usage.tokens),
        "meta": {**meta, **({"warnings": list(result.notes)} if result.notes else {})},
    }
    if path != "/v2/rerank":
        content |= {"object": "list", "data": _items(result.given, "relevance_score", "document", shown)}
    return content


def _result_documents(body: RerankRequest, path: str) -> Sequence[Any] | None:
    """Return the documents for `results`, as objects; where the request does not say, as the path's owners do."""
    shown = body.gives_documents
    if shown is None:  # Jina and vLLM return them, TEI, Voyage and Cohere do not
        shown = body.texts is None and not body.is_voyages and path != "/v2/rerank"
    objects = [{"text": document} if isinstance(document, str) else document for document in body.listed]
    return objects if shown else None


def _items(ranking: list[Ranked], score: str, document: str, shown: Sequence[Any] | None) -> list[dict[str, Any]]:
    """Return the ranking in a dialect's words for the score and the document, with the documents that are shown."""
    return [
        {"index": one.index, score: one.score, **({} if shown is None else {document: shown[one.index]})}
        for one in ranking
    ]
