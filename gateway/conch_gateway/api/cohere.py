"""`/v2/embed` and `/v1/embed`, as Cohere's clients speak it; its rerank is in `rerank`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway.api.fields.body import RequestBody, invalid, read_body, wrong_type
from conch_gateway.api.fields.encodings import Encoded, encode
from conch_gateway.api.fields.options import (
    Dimensions,
    EmbeddingModel,
    OutputTypesField,
    TruncationField,
    Unserved,
    truncation,
)
from conch_gateway.api.fields.texts import TEXT, StringsField, list_of, object_with, strings_of
from conch_gateway.api.route import Route, errors, json_response, takes
from conch_gateway.errors import Problem
from conch_gateway.inference.service import Inference, Result
from conch_gateway.jobs import EmbeddingJob, InputType, Vectors
from conch_gateway.telemetry.request import context_of

_EXAMPLE = {
    "model": "all-minilm-l6-v2",
    "texts": ["How do I reverse a list?"],
    "input_type": "search_query",
    "embedding_types": ["float", "int8"],
}


class CohereError(BaseModel):
    """Cohere's shape of an error."""

    message: str


class CohereRoute(Route):
    """Answers errors as Cohere does."""

    error_model = CohereError
    prefix = "/v2/"

    @classmethod
    def error_body(cls, problem: Problem) -> Mapping[str, Any]:
        """Return `{"message"}`."""
        return {"message": problem.message}


def _inputs(value: object) -> list[str]:
    if not isinstance(value, list):
        raise wrong_type('must be a list of objects such as {"content": [{"type": "text", "text": "..."}]}')
    return strings_of([_content(index, item) for index, item in enumerate(value)])


def _content(index: int, item: Any) -> str:
    parts = item.get("content") if isinstance(item, dict) else None
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise wrong_type(f'item {index} must be an object such as {{"content": [{{"type": "text", "text": "..."}}]}}')
    if any(part.get("type") != "text" for part in parts):
        raise invalid(f"item {index} holds more than text, and only text is served")
    texts = [part.get("text") for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise wrong_type(f'item {index}: a "text" must be a string')
    return "\n".join(texts)


_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": TEXT},
    "required": ["type", "text"],
}
_InputsField = Annotated[
    list[str], PlainValidator(_inputs), WithJsonSchema(list_of(object_with("content", list_of(_PART))))
]


class CohereEmbedRequest(RequestBody):
    """Exactly one of `texts` and `inputs`; images are refused, and unknown fields ignored."""

    needed = (("texts", "inputs"),)

    texts: StringsField | None = Field(None, description="Texts to embed.")
    inputs: _InputsField | None = Field(None, description="Texts to embed, each in parts that are joined by newlines.")
    images: Annotated[Any, Unserved("Cohere's", "not served; send texts")] = None
    model: EmbeddingModel = None
    input_type: InputType | None = Field(None, description="What the texts are for: picks the model's prompt.")
    embedding_types: OutputTypesField | None = Field(None, description="Types of the numbers; float where left out.")
    output_dimension: Dimensions = None
    truncate: TruncationField | None = Field(
        None, description="What to cut from a text beyond the model's limit: NONE (answer 400), START, END."
    )
    max_tokens: Annotated[
        Any, Unserved("Cohere's", "not served: texts are cut to the model's limit only; leave it out")
    ] = None

    @property
    def given_texts(self) -> list[str]:
        """The texts, however they came."""
        return self.texts or self.inputs or []

    def job(self) -> EmbeddingJob:
        """Return the request in the gateway's own words."""
        return EmbeddingJob(
            texts=self.given_texts,
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


def router(service: Inference) -> APIRouter:
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
        context = context_of(request)
        embedded = await service.embed(body.job(), context)
        if body.embedding_types is None:
            return _response("1", context.request_id, body, embedded, encode(embedded.given, "float"))
        return _response("1", context.request_id, body, embedded, _by_type(body, embedded))

    @routes.post("/v2/embed", **described)
    async def embed(request: Request) -> Response:
        body = await read_body(request, CohereEmbedRequest)
        context = context_of(request)
        embedded = await service.embed(body.job(), context)
        return _response("2", context.request_id, body, embedded, _by_type(body, embedded))

    return routes


def _by_type(body: CohereEmbedRequest, embedded: Result[Vectors]) -> dict[str, Encoded]:
    return {kind: encode(embedded.given, kind) for kind in body.embedding_types or ("float",)}


def _response(
    version: str,
    request_id: str,
    body: CohereEmbedRequest,
    embedded: Result[Vectors],
    embeddings: dict[str, Encoded] | Encoded,
) -> Response:
    content = {
        "response_type": "embeddings_by_type" if isinstance(embeddings, dict) else "embeddings_floats",
        "id": request_id,
        "embeddings": embeddings,
        "texts": body.given_texts,
        "meta": {"api_version": {"version": version}, "billed_units": {"input_tokens": embedded.usage.tokens}},
    }
    return json_response(content)
