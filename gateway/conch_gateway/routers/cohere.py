"""`/v2/embed` and `/v1/embed`, as Cohere's clients speak it; its rerank is in `rerank`."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway._body import RequestBody, read_body
from conch_gateway._dialects import CohereRoute
from conch_gateway._encodings import Encoded, encode
from conch_gateway._fields import Name, OutputTypesField, StringsField, TruncationField, truncation
from conch_gateway._jobs import EmbeddingJob
from conch_gateway._openapi import errors, takes
from conch_gateway._prompts import InputType
from conch_gateway._route import json_response
from conch_gateway._trace import trace_of
from conch_gateway.embedding import Embedded, Embedder

_EXAMPLE = {
    "model": "all-minilm-l6-v2",
    "texts": ["How do I reverse a list?"],
    "input_type": "search_query",
    "embedding_types": ["float", "int8"],
}


class CohereEmbedRequest(RequestBody):
    """Texts, as strings; images are refused, and unknown fields ignored."""

    texts: StringsField = Field(description="Texts to embed.")
    model: Name | None = Field(None, description="Id of an embedding model; may be left out where there is one.")
    input_type: InputType | None = Field(None, description="What the texts are for: picks the model's prompt.")
    embedding_types: OutputTypesField | None = Field(None, description="Types of the numbers; float where left out.")
    output_dimension: int | None = Field(
        None, ge=1, description="Length of the vectors, for models that were trained to be shortened."
    )
    truncate: TruncationField | None = Field(
        None, description="What to cut from a text beyond the model's limit: NONE (answer 400), START, END."
    )

    def job(self) -> EmbeddingJob:
        """Return the request in the gateway's own words."""
        return EmbeddingJob(
            texts=self.texts,
            model=self.model,
            input_type=self.input_type,
            dimensions=self.output_dimension,
            truncate=truncation(self.truncate),
        )


class EmbeddingsByType(BaseModel):
    """The vectors in the order of the texts, once for each type that was asked for."""

    float_: list[list[float]] | None = Field(None, alias="float")  # the bare name would hide the type
    base64: list[str] | None = None
    int8: list[list[int]] | None = None
    uint8: list[list[int]] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None


class CohereEmbedResponse(BaseModel):
    """The vectors by type; bare floats from `/v1/embed` where no type was asked for."""

    response_type: Literal["embeddings_by_type", "embeddings_floats"]
    id: str
    embeddings: EmbeddingsByType | list[list[float]]
    texts: list[str]
    meta: dict[str, Any]


def router(embedder: Embedder) -> APIRouter:
    """Return the routes of this dialect."""
    routes = APIRouter(route_class=CohereRoute, tags=["embeddings"])
    described: dict[str, Any] = {
        "summary": "Embed texts, as Cohere does",
        "responses": {200: {"model": CohereEmbedResponse}, **errors(CohereRoute)},
        "openapi_extra": takes(CohereEmbedRequest, _EXAMPLE),
    }

    @routes.post("/v1/embed", **described)
    async def embed_first_version(request: Request) -> Response:
        body = await read_body(request, CohereEmbedRequest)
        trace = trace_of(request)
        embedded = await embedder.embed(body.job(), trace)
        if body.embedding_types is None:
            return _response("1", trace.request_id, body, embedded, encode(embedded.vectors, "float"))
        return _response("1", trace.request_id, body, embedded, _by_type(body, embedded))

    @routes.post("/v2/embed", **described)
    async def embed(request: Request) -> Response:
        body = await read_body(request, CohereEmbedRequest)
        trace = trace_of(request)
        embedded = await embedder.embed(body.job(), trace)
        return _response("2", trace.request_id, body, embedded, _by_type(body, embedded))

    return routes


def _by_type(body: CohereEmbedRequest, embedded: Embedded) -> dict[str, Encoded]:
    return {kind: encode(embedded.vectors, kind) for kind in body.embedding_types or ("float",)}


def _response(
    version: str,
    request_id: str,
    body: CohereEmbedRequest,
    embedded: Embedded,
    embeddings: dict[str, Encoded] | Encoded,
) -> Response:
    content = {
        "response_type": "embeddings_by_type" if isinstance(embeddings, dict) else "embeddings_floats",
        "id": request_id,
        "embeddings": embeddings,
        "texts": body.texts,
        "meta": {"api_version": {"version": version}, "billed_units": {"input_tokens": embedded.tokens}},
    }
    return json_response(content)
