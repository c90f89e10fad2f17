"""`POST /v1/embeddings`, as OpenAI's clients speak it."""

import base64
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway._body import RequestBody, read_body
from conch_gateway._fields import Name, TextsField, TruncateField
from conch_gateway._openapi import ERRORS, takes
from conch_gateway._route import Route, json_response
from conch_gateway._trace import trace_of
from conch_gateway.embedding import Embedder, EmbeddingJob


class EmbeddingsRequest(RequestBody):
    """OpenAI's fields, and conch's `prompt_name`, `input_type` and `truncate`; others are ignored."""

    input: TextsField = Field(description="Text or texts, or their token ids (special tokens included).")
    model: Name | None = Field(None, description="Id of an embedding model; may be left out where there is one.")
    encoding_format: Literal["float", "base64"] | None = Field(
        "float", description="Numbers, or base64 of the little-endian float32 vector."
    )
    dimensions: int | None = Field(
        None, ge=1, description="Length of the vectors, for models that were trained to be shortened."
    )
    user: str | None = Field(None, description="Accepted for compatibility; not used.")
    prompt_name: Name | None = Field(None, description="Name of the model's prompt to put before each text.")
    input_type: Literal["query", "passage", "document"] | None = Field(
        None, description="What the texts are for: picks the model's prompt where it has one, unless prompt_name does."
    )
    truncate: TruncateField | None = Field(
        None, description="What to cut from a text beyond the model's limit: none (answer 400), start, end."
    )


class EmbeddingItem(BaseModel):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(BaseModel):
    """Real tokens, special ones included."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """The vectors in the order of the texts."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingsUsage


def router(embedder: Embedder) -> APIRouter:
    """Return the routes of this resource."""
    routes = APIRouter(route_class=Route, tags=["embeddings"])

    @routes.post(
        "/v1/embeddings",
        summary="Embed texts",
        responses={200: {"model": EmbeddingsResponse}, **ERRORS},
        openapi_extra=takes(EmbeddingsRequest),
    )
    async def create_embeddings(request: Request) -> Response:
        body = await read_body(request, EmbeddingsRequest)
        embedded = await embedder.embed(_job(body), trace_of(request))
        encode = _base64_rows if body.encoding_format == "base64" else list
        data = [
            {"object": "embedding", "index": index, "embedding": row}
            for index, row in enumerate(encode(embedded.vectors))
        ]
        usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
        return json_response({"object": "list", "data": data, "model": embedded.model, "usage": usage})

    return routes


def _job(body: EmbeddingsRequest) -> EmbeddingJob:
    return EmbeddingJob(
        texts=body.input,
        model=body.model,
        prompt_name=body.prompt_name,
        input_type=body.input_type,
        dimensions=body.dimensions,
        truncate=body.truncate,
    )


def _base64_rows(vectors: NDArray[Any]) -> list[str]:
    """Encode each row of float32 [n, dim]; no number is touched by Python."""
    return [base64.b64encode(row).decode("ascii") for row in np.ascontiguousarray(vectors, dtype="<f4")]
