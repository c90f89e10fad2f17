"""`/api/embed`, `/api/embeddings` and what clients of Ollama ask about models.

As there, no input is no error but asks for the model only, and a list may be of any length.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from time import perf_counter_ns
from typing import Annotated, Any, Literal

from conch_client import ModelInfo, ModelNotFoundError
from conch_contract import Task
from fastapi import APIRouter
from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway.api.fields.body import RequestBody, read_body
from conch_gateway.api.fields.options import Dimensions, Flag, Name
from conch_gateway.api.fields.texts import TEXT, strings_of
from conch_gateway.api.route import Route, errors, json_response, takes
from conch_gateway.errors import Problem
from conch_gateway.inference.service import Inference
from conch_gateway.jobs import EmbeddingJob, Texts
from conch_gateway.models.registry import LATEST, Models
from conch_gateway.telemetry.request import RequestContext, context_of

_MODEL = "all-minilm-l6-v2"


class OllamaError(BaseModel):
    """Ollama's shape of an error."""

    error: str


class OllamaRoute(Route):
    """Answers errors as Ollama does."""

    error_model = OllamaError
    prefix = "/api/"

    @classmethod
    def error_body(cls, problem: Problem) -> Mapping[str, Any]:
        """Return `{"error"}`."""
        return {"error": problem.message}


class OllamaRequest(RequestBody):
    """What both requests for vectors share; `options` and `keep_alive` are accepted and not used."""

    model: Name = Field(description="Id of an embedding model.")
    truncate: Flag | None = Field(None, description="Whether to cut the end of a text beyond the model's limit.")
    dimensions: Dimensions = None

    def job(self, texts: Texts) -> EmbeddingJob:
        """Return the request in the gateway's own words."""
        return EmbeddingJob(
            texts=texts,
            model=self.model,
            dimensions=self.dimensions,
            truncate="none" if self.truncate is False else "end",
            counted=False,
        )


def _texts(value: object) -> list[str]:
    return [] if value in ("", []) else strings_of(value)


_TextsField = Annotated[
    list[str],
    PlainValidator(_texts),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": TEXT}]}),
]


class OllamaEmbedRequest(OllamaRequest):
    """Texts; none at all ask whether the model is there."""

    input: _TextsField = Field([], description="Text or texts; nothing gets no vectors.")


class OllamaEmbeddingsRequest(OllamaRequest):
    """One text; an empty one asks whether the model is there."""

    prompt: str = Field("", description="Text; an empty one gets an empty vector.")


class NamedRequest(RequestBody):
    """A model, by either of the two names that the field has had."""

    model: Name | None = Field(None, description="Id of a model.")
    name: Name | None = Field(None, description="The older word for `model`.")

    @property
    def named(self) -> str:
        """The model's id."""
        return self.model or self.name or ""

    @model_validator(mode="after")
    def _has_a_name(self) -> NamedRequest:
        if not self.named:
            raise PydanticCustomError("missing", "model: Field required")
        return self


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


class PullResponse(BaseModel):
    """The model is there."""

    status: Literal["success"]


class VersionResponse(BaseModel):
    """The version of conch."""

    version: str


def router(service: Inference, models: Models) -> APIRouter:
    """Return the routes of this dialect."""
    routes = APIRouter(route_class=OllamaRoute, tags=["ollama"])
    started = datetime.now(timezone.utc).isoformat()
    failures = errors(OllamaRoute)

    async def compute(body: OllamaRequest, texts: list[str], context: RequestContext) -> tuple[list[Any], int]:
        if not texts:
            await models.describe(body.model, context.key)
            return [], 0
        embedded = await service.embed(body.job(texts), context)
        return list(embedded.given), embedded.usage.tokens

    @routes.post(
        "/api/embed",
        summary="Embed texts, as Ollama does",
        responses={200: {"model": OllamaEmbedResponse}, **failures},
        openapi_extra=takes(OllamaEmbedRequest, {"model": _MODEL, "input": ["How do I reverse a list?"]}),
    )
    async def embed(request: Request) -> Response:
        begun = perf_counter_ns()
        body = await read_body(request, OllamaEmbedRequest)
        vectors, tokens = await compute(body, body.input, context_of(request))
        content = {
            "model": body.model,
            "embeddings": vectors,
            "total_duration": perf_counter_ns() - begun,
            "load_duration": 0,
            "prompt_eval_count": tokens,
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
        vectors, _ = await compute(body, [body.prompt] if body.prompt else [], context_of(request))
        return json_response({"embedding": vectors[0] if vectors else []})

    @routes.get(
        "/api/tags", summary="List models, as Ollama does", responses={200: {"model": TagsResponse}, **failures}
    )
    async def tags(request: Request) -> Response:
        listed = [info for info in await models.listed(context_of(request).key) if info.task == Task.EMBEDDING]
        return json_response({"models": [_tag(info, started) for info in listed]})

    @routes.post(
        "/api/show",
        summary="Describe a model, as Ollama does",
        responses={200: {"model": ShowResponse}, **failures},
        openapi_extra=takes(NamedRequest, {"model": _MODEL}),
    )
    async def show(request: Request) -> Response:
        body = await read_body(request, NamedRequest)
        return json_response(_shown(await models.describe(body.named, context_of(request).key), started))

    @routes.post(
        "/api/pull",
        summary="Say that a model is there, where Ollama would fetch it",
        responses={200: {"model": PullResponse}, **failures},
        openapi_extra=takes(NamedRequest, {"model": _MODEL}),
    )
    async def pull(request: Request) -> Response:
        body = await read_body(request, NamedRequest)
        try:
            await models.describe(body.named, context_of(request).key)
        except ModelNotFoundError as error:
            msg = f"{error}; models are not pulled but exported into the model repository: conch export CHECKPOINT"
            raise ModelNotFoundError(msg) from error
        return json_response({"status": "success"})

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
    tagged = info.name if ":" in info.name else info.name + LATEST
    return {
        "name": tagged,
        "model": tagged,
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
        "capabilities": ["embedding"] if info.task == Task.EMBEDDING else [],
        "modified_at": modified_at,
    }
