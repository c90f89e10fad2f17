"""`/api/embed`, `/api/embeddings` and Ollama's paths about models.

As in Ollama, a request without input only checks that the model is there. A list may have any number of texts in
Ollama; here it may have as many as may be in flight together (`CONCH_MAX_IN_FLIGHT_TEXTS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from time import perf_counter
from typing import Annotated, Any, ClassVar, Literal

from conch_client import ModelInfo, ModelNotFoundError
from conch_contract import Task
from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request

from conch_gateway.api.fields.body import Example, RequestBody, optional
from conch_gateway.api.fields.options import Dimensions, Flag, Name
from conch_gateway.api.fields.texts import TEXT, strings_of
from conch_gateway.api.route import Route, Router
from conch_gateway.api.services import Services
from conch_gateway.errors import Problem
from conch_gateway.jobs import EmbeddingJob, Texts
from conch_gateway.models.registry import LATEST
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
    """Fields of both requests for vectors; `options` and `keep_alive` are ignored."""

    model: Name = Field(description="Id of an embedding model.")
    truncate: Flag | None = optional("Whether to cut the end of a text beyond the model's limit.")
    dimensions: Dimensions = None

    def job(self, texts: Texts) -> EmbeddingJob:
        """Return the job that the request describes."""
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
    """Texts; without any, the request only checks that the model is there."""

    example: ClassVar[Example] = {"model": _MODEL, "input": ["How do I reverse a list?"]}

    input: _TextsField = Field([], description="Text or texts; without any, the answer has no vectors.")


class OllamaEmbeddingsRequest(OllamaRequest):
    """One text; with an empty one, the request only checks that the model is there."""

    example: ClassVar[Example] = {"model": _MODEL, "prompt": "How do I reverse a list?"}

    prompt: str = Field("", description="Text; an empty one gets an empty vector.")


class NamedRequest(RequestBody):
    """A model, by either of the two names that the field has had."""

    example: ClassVar[Example] = {"model": _MODEL}

    model: Name | None = optional("Id of a model.")
    name: Name | None = optional("The older word for `model`.")

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
    """Format, family and precision of a model."""

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
    """Facts about a model."""

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


def router(services: Services) -> Router:
    """Return the routes of this dialect."""
    routes = Router(OllamaRoute, tag="ollama")
    models, started = services.models, datetime.now(timezone.utc).isoformat()

    async def compute(body: OllamaRequest, texts: list[str], context: RequestContext) -> tuple[list[Any], int]:
        if not texts:
            await models.describe(body.model, context.key)
            return [], 0
        embedded = await services.inference.embed(body.job(texts), context)
        return list(embedded.given), embedded.usage.tokens

    @routes.on_post("/api/embed", OllamaEmbedRequest, OllamaEmbedResponse, "Embed texts, as Ollama does")
    async def embed(body: OllamaEmbedRequest, request: Request) -> Any:
        context = context_of(request)
        vectors, tokens = await compute(body, body.input, context)
        return {
            "model": body.model,
            "embeddings": vectors,
            "total_duration": int(1e9 * (perf_counter() - context.started)),
            "load_duration": 0,
            "prompt_eval_count": tokens,
        }

    @routes.on_post(
        "/api/embeddings", OllamaEmbeddingsRequest, OllamaEmbeddingsResponse, "Embed a text, as Ollama once did"
    )
    async def embed_one(body: OllamaEmbeddingsRequest, request: Request) -> Any:
        vectors, _ = await compute(body, [body.prompt] if body.prompt else [], context_of(request))
        return {"embedding": vectors[0] if vectors else []}

    @routes.on_get("/api/tags", TagsResponse, "List models, as Ollama does")
    async def tags(request: Request) -> Any:
        listed = await models.listed(context_of(request).key)
        return {"models": [_tag(info, started) for info in listed if info.task == Task.EMBEDDING]}

    @routes.on_post("/api/show", NamedRequest, ShowResponse, "Describe a model, as Ollama does")
    async def show(body: NamedRequest, request: Request) -> Any:
        return _shown(await models.describe(body.named, context_of(request).key), started)

    @routes.on_post("/api/pull", NamedRequest, PullResponse, "Say that a model is there, where Ollama would fetch it")
    async def pull(body: NamedRequest, request: Request) -> Any:
        try:
            await models.describe(body.named, context_of(request).key)
        except ModelNotFoundError as error:
            msg = f"{error}; models are not pulled but exported into the model repository: conch export CHECKPOINT"
            raise ModelNotFoundError(msg) from error
        return {"status": "success"}

    @routes.route(
        "/api/version", summary="Tell the version, as Ollama does", responses={200: {"model": VersionResponse}}
    )
    async def tell_version(_: Request) -> Any:
        return {"version": version("conch")}

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
