"""`/api/embed`, `/api/embeddings` and what clients of Ollama ask about models."""

from datetime import datetime, timezone
from importlib.metadata import version
from time import perf_counter_ns
from typing import Any

from conch_client import ModelInfo
from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway._body import RequestBody, read_body
from conch_gateway._choice import Models
from conch_gateway._dialects import OllamaRoute
from conch_gateway._fields import Name, StringsField, Texts
from conch_gateway._jobs import EmbeddingJob
from conch_gateway._openapi import errors, takes
from conch_gateway._route import json_response
from conch_gateway._tasks import EMBEDDING
from conch_gateway._trace import trace_of
from conch_gateway.embedding import Embedder

_MODEL = "all-minilm-l6-v2"
_LATEST = ":latest"  # what Ollama's clients may put behind a name that has no tag


class OllamaRequest(RequestBody):
    """What both requests for vectors share; `options` and `keep_alive` are accepted and not used."""

    model: Name = Field(description="Id of an embedding model.")
    truncate: bool | None = Field(None, description="Whether to cut the end of a text beyond the model's limit.")
    dimensions: int | None = Field(
        None, ge=1, description="Length of the vectors, for models that were trained to be shortened."
    )

    def job(self, texts: Texts) -> EmbeddingJob:
        """Return the request in the gateway's own words."""
        return EmbeddingJob(
            texts=texts,
            model=self.model.removesuffix(_LATEST),
            dimensions=self.dimensions,
            truncate="none" if self.truncate is False else "end",
        )


class OllamaEmbedRequest(OllamaRequest):
    """Texts."""

    input: StringsField = Field(description="Text or texts.")


class OllamaEmbeddingsRequest(OllamaRequest):
    """One text."""

    prompt: str = Field(min_length=1, description="Text.")


class ShowRequest(RequestBody):
    """A model."""

    model: Name = Field(description="Id of a model.")


class OllamaEmbedResponse(BaseModel):
    """The vectors in the order of the texts; durations are in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class OllamaEmbeddingsResponse(BaseModel):
    """One vector."""

    embedding: list[float]


class ModelDetails(BaseModel):
    """What kind of model it is."""

    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class ModelTag(BaseModel):
    """A model that is served."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: ModelDetails


class TagsResponse(BaseModel):
    """All embedding models, by name."""

    models: list[ModelTag]


class ShowResponse(BaseModel):
    """What is known of a model."""

    details: ModelDetails
    model_info: dict[str, str | int]
    capabilities: list[str]
    modified_at: str


class VersionResponse(BaseModel):
    """The version of conch."""

    version: str


def router(embedder: Embedder, models: Models) -> APIRouter:
    """Return the routes of this dialect."""
    routes = APIRouter(route_class=OllamaRoute, tags=["ollama"])
    started = datetime.now(timezone.utc).isoformat()
    failures = errors(OllamaRoute)

    @routes.post(
        "/api/embed",
        summary="Embed texts, as Ollama does",
        responses={200: {"model": OllamaEmbedResponse}, **failures},
        openapi_extra=takes(OllamaEmbedRequest, {"model": _MODEL, "input": ["How do I reverse a list?"]}),
    )
    async def embed(request: Request) -> Response:
        begun = perf_counter_ns()
        body = await read_body(request, OllamaEmbedRequest)
        embedded = await embedder.embed(body.job(body.input), trace_of(request))
        content = {
            "model": body.model,
            "embeddings": list(embedded.vectors),
            "total_duration": perf_counter_ns() - begun,
            "load_duration": 0,
            "prompt_eval_count": embedded.tokens,
        }
        return json_response(content)

    @routes.post(
        "/api/embeddings",
        summary="Embed a text, as Ollama once did",
        responses={200: {"model": OllamaEmbeddingsResponse}, **failures},
        openapi_extra=takes(OllamaEmbeddingsRequest, {"model": _MODEL, "prompt": "How do I reverse a list?"}),
    )
    async def embed_one(request: Request) -> Response:
        body = await read_body(request, OllamaEmbeddingsRequest)
        embedded = await embedder.embed(body.job([body.prompt]), trace_of(request))
        return json_response({"embedding": embedded.vectors[0]})

    @routes.get(
        "/api/tags", summary="List models, as Ollama does", responses={200: {"model": TagsResponse}, **failures}
    )
    async def tags(request: Request) -> Response:
        listed = [info for info in await models.listed(trace_of(request).key) if info.task in EMBEDDING]
        return json_response({"models": [_tag(info, started) for info in listed]})

    @routes.post(
        "/api/show",
        summary="Describe a model, as Ollama does",
        responses={200: {"model": ShowResponse}, **failures},
        openapi_extra=takes(ShowRequest, {"model": _MODEL}),
    )
    async def show(request: Request) -> Response:
        body = await read_body(request, ShowRequest)
        info = await models.describe(body.model.removesuffix(_LATEST), trace_of(request).key)
        return json_response(_shown(info, started))

    @routes.get("/api/version", summary="Tell the version, as Ollama does", responses={200: {"model": VersionResponse}})
    async def tell_version(_: Request) -> Response:
        return json_response({"version": version("conch")})

    return routes


def _details(info: ModelInfo) -> dict[str, Any]:
    return {
        "format": "onnx",
        "family": info.architecture,
        "families": [info.architecture],
        "parameter_size": "",
        "quantization_level": info.precision,
    }


def _tag(info: ModelInfo, modified_at: str) -> dict[str, Any]:
    return {
        "name": info.name,
        "model": info.name,
        "modified_at": modified_at,
        "size": 0,
        "digest": info.weights_sha256,
        "details": _details(info),
    }


def _shown(info: ModelInfo, modified_at: str) -> dict[str, Any]:
    facts = {
        "general.architecture": info.architecture,
        f"{info.architecture}.context_length": info.max_length,
        f"{info.architecture}.embedding_length": info.dimension,
    }
    return {
        "details": _details(info),
        "model_info": {name: value for name, value in facts.items() if value is not None},
        "capabilities": ["embedding"] if info.task in EMBEDDING else [],
        "modified_at": modified_at,
    }
