"""`POST /v1/embeddings`, as OpenAI's clients speak it, and with the fields that Jina, NIM, Voyage and vLLM added.

It is served at Azure's paths too, where the deployment is the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, cast

from conch_client import ModelNotFoundError
from fastapi import APIRouter
from pydantic import BaseModel, Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway.api.fields.body import invalid, read_body
from conch_gateway.api.fields.encodings import NumberType, OutputType, encode, numbers
from conch_gateway.api.fields.options import (
    Dimensions,
    Flag,
    Name,
    OutputTypesField,
    PromptName,
    TruncationField,
    TruncationOptions,
    Unserved,
    VectorOptions,
    truncation,
)
from conch_gateway.api.fields.texts import InputField
from conch_gateway.api.route import ErrorEnvelope, Route, errors, json_response, path_parameter, takes
from conch_gateway.errors import Problem
from conch_gateway.inference.service import Inference
from conch_gateway.jobs import EmbeddingJob, InputType, Vectors
from conch_gateway.telemetry.request import RequestContext, context_of

_PATHS = {
    "/v1/embeddings": "Embed texts",
    "/openai/v1/embeddings": "Embed texts, at Azure's path",
    "/openai/deployments/{deployment:path}/embeddings": "Embed texts, at Azure's older path",
}
_DEPLOYMENT = path_parameter("deployment", "Id of the model; the body's is not used.", "all-minilm-l6-v2")
_EXAMPLE = {"model": "all-minilm-l6-v2", "input": ["How do I reverse a list?", "list.reverse() reverses in place."]}


class SharedError(ErrorEnvelope):
    """OpenAI's shape of an error, Voyage's and Jina's `detail` and Cohere's `message` in one."""

    message: str
    detail: str


class SharedRoute(Route):
    """Answers errors as all those do who share a path: OpenAI, Voyage, Jina, vLLM and Cohere's first version."""

    error_model = SharedError

    @classmethod
    def error_body(cls, problem: Problem) -> Mapping[str, Any]:
        """Return `{"error", "message", "detail"}`."""
        return {**super().error_body(problem), "message": problem.message, "detail": problem.message}


class EmbeddingsRequest(VectorOptions, TruncationOptions):
    """OpenAI's fields, and those of other servers that speak its dialect; unknown ones are ignored."""

    synonyms = (("dimensions", "output_dimension"), ("input_type", "task"), ("embedding_type", "encoding_type"))

    input: InputField = Field(
        description='Text or texts, also as Jina\'s {"text": ...}, or their token ids (special tokens included).'
    )
    model: Name | None = Field(
        None,
        description="Id of an embedding model; may be left out where there is one. Where no model has the name, an "
        "ending of -query or -passage is taken for `input_type`, as NIM does.",
    )
    dimensions: Dimensions = None
    output_dimension: int | None = Field(None, ge=1, description="Voyage's name for `dimensions`.")
    user: Any = Field(None, description="Accepted for compatibility; not used.")
    prompt_name: PromptName = None
    input_type: InputType | None = Field(
        None, description="What the texts are for: picks the model's prompt where it has one, unless prompt_name does."
    )
    task: InputType | None = Field(None, description="Jina's name for `input_type`.")
    truncate: TruncationField | None = Field(
        None,
        description="What to cut from a text beyond the model's limit: none (answer 400), start or end; true is end.",
    )
    truncation: Flag | None = Field(None, description="Voyage's name for `truncate`.")
    normalized: Flag | None = Field(None, description="Jina's name for `normalize`.")
    embedding_type: OutputTypesField | None = Field(
        None,
        description="Jina's and NIM's: type of the numbers, as a list of numbers (or base64 of float32). With several, "
        "`embedding` is an object with one entry for each.",
    )
    encoding_type: OutputTypesField | None = Field(None, description="Jina's older name for `embedding_type`.")
    output_dtype: NumberType | None = Field(
        None, description="Voyage's: type of the numbers, which encoding_format may put into base64."
    )
    vector_type: Literal["dense", "late", "sparse"] = Field(
        "dense", description="One vector for each text, one for each of its tokens, or a weight for each term."
    )
    late_chunking: Annotated[
        Any,
        Unserved(
            "Jina's", "not served; embed each chunk, or pool the token vectors of vector_type late", taken=(False,)
        ),
    ] = None
    return_multivector: Annotated[Any, Unserved("Jina's", "not served; ask for vector_type late", taken=(False,))] = (
        None
    )
    modality: Annotated[Any, Unserved("NIM's and infinity's", "only text is served", taken=("text",))] = None
    messages: Annotated[Any, Unserved("vLLM's", "not served; send texts as input")] = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> EmbeddingsRequest:
        typed = bool(self.types) or self.output_dtype not in {None, "float"}
        if typed and (self.vector_type != "dense" or (self.types and self.output_dtype)):
            raise invalid("send one of embedding_type and output_dtype, and for dense vectors only")
        if not self.unit_length and {"int8", "uint8"} & {*self.types, self.output_dtype}:
            raise invalid("normalize: numbers of eight bits are for vectors of length 1; leave it out")
        return self

    @property
    def types(self) -> tuple[OutputType, ...]:
        """Types of the numbers that are wanted as lists; none is float, as `encoding_format` says."""
        return self.embedding_type or self.encoding_type or ()

    @property
    def unit_length(self) -> bool:
        """Whether vectors shall have length 1."""
        return super().unit_length and self.normalized is not False

    def job(self) -> EmbeddingJob:
        """Return the request without its dialects' synonyms."""
        return EmbeddingJob(
            texts=self.input,
            model=self.model,
            prompt_name=self.prompt_name,
            input_type=self.input_type or self.task,
            dimensions=self.dimensions or self.output_dimension,
            truncate=truncation(self.truncate) or truncation(self.truncation) or self.cut,
            normalize=self.unit_length,
        )


class SparseEmbedding(BaseModel):
    """Term ids, ascending, and their weights."""

    indices: list[int]
    values: list[float]


class EmbeddingItem(BaseModel):
    """One text: its numbers or their base64, by type where several were asked for, or its token or sparse vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | list[list[float]] | str | SparseEmbedding | dict[str, list[float] | str]
    shape: list[int] | None = Field(None, description="Of token vectors: how many, and of which dimension.")


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


def router(service: Inference) -> APIRouter:
    """Return the routes of this resource."""
    routes = APIRouter(route_class=SharedRoute, tags=["embeddings"])

    async def create_embeddings(request: Request) -> Response:
        body = await read_body(request, EmbeddingsRequest)
        job, context = body.job(), context_of(request)
        if "deployment" in request.path_params:
            job = replace(job, model=request.path_params["deployment"])
        try:
            return await answer(body, job, context)
        except ModelNotFoundError:
            name, _, kind = (job.model or "").rpartition("-")
            if kind not in {"query", "passage"} or job.input_type is not None:
                raise
            return await answer(body, replace(job, model=name, input_type=cast("InputType", kind)), context)

    async def answer(body: EmbeddingsRequest, job: EmbeddingJob, context: RequestContext) -> Response:
        if body.vector_type == "late":
            late = await service.embed_tokens(job, context)
            shapes = [{"shape": vectors.shape} for vectors in late.given]
            return _response(late.model, late.usage.tokens, body.packed(late.given), shapes)
        if body.vector_type == "sparse":
            sparse = await service.embed_sparse(job, context)
            return _response(sparse.model, sparse.usage.tokens, [vector._asdict() for vector in sparse.given])
        dense = await service.embed(job, context)
        return _response(dense.model, dense.usage.tokens, _dense(body, dense.given))

    for path, summary in _PATHS.items():
        routes.add_api_route(
            path,
            create_embeddings,
            methods=["POST"],
            summary=summary,
            responses={200: {"model": EmbeddingsResponse}, **errors(SharedRoute)},
            openapi_extra=takes(EmbeddingsRequest, _EXAMPLE) | (_DEPLOYMENT if "{" in path else {}),
        )
    return routes


def _dense(body: EmbeddingsRequest, vectors: Vectors) -> list[Any]:
    if body.types:
        by_type = {kind: encode(vectors, kind) for kind in body.types}
        if len(by_type) == 1:
            return next(iter(by_type.values()))
        return [dict(zip(by_type, kinds, strict=True)) for kinds in zip(*by_type.values(), strict=True)]
    return body.packed(numbers(vectors, body.output_dtype or "float"))


def _response(model: str, tokens: int, embeddings: list[Any], extras: list[dict[str, Any]] | None = None) -> Response:
    data = [
        {"object": "embedding", "index": index, "embedding": embedding, **(extras[index] if extras else {})}
        for index, embedding in enumerate(embeddings)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_response({"object": "list", "data": data, "model": model, "usage": usage})
