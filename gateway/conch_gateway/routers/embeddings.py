"""`POST /v1/embeddings`, as OpenAI's clients speak it, and with the fields that Jina, NIM, Voyage and vLLM added."""

from dataclasses import replace
from typing import Any, Literal

from conch_client import ModelNotFoundError
from fastapi import APIRouter
from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway._body import RequestBody, read_body
from conch_gateway._encodings import NumberType, encode, in_base64, numbers
from conch_gateway._fields import Name, OutputTypesField, PromptTokensField, TextsField, TruncationField, truncation
from conch_gateway._jobs import EmbeddingJob
from conch_gateway._openapi import errors, takes
from conch_gateway._prompts import InputType
from conch_gateway._route import Route, json_response
from conch_gateway._trace import Trace, trace_of
from conch_gateway.embedding import Embedded, Embedder
from conch_gateway.representing import Representer

_EXAMPLE = {"model": "all-minilm-l6-v2", "input": ["How do I reverse a list?", "list.reverse() reverses in place."]}


class EmbeddingsRequest(RequestBody):
    """OpenAI's fields, and those of other servers that speak its dialect; unknown ones are ignored."""

    input: TextsField = Field(description="Text or texts, or their token ids (special tokens included).")
    model: Name | None = Field(
        None,
        description="Id of an embedding model; may be left out where there is one. Where no model has the name, an "
        "ending of -query or -passage is taken for `input_type`, as NIM does.",
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        "float", description="Numbers, or base64 of their little-endian bytes: float32, or what output_dtype says."
    )
    dimensions: int | None = Field(
        None, ge=1, description="Length of the vectors, for models that were trained to be shortened."
    )
    output_dimension: int | None = Field(None, ge=1, description="Voyage's name for `dimensions`.")
    user: str | None = Field(None, description="Accepted for compatibility; not used.")
    prompt_name: Name | None = Field(None, description="Name of the model's prompt to put before each text.")
    input_type: InputType | None = Field(
        None, description="What the texts are for: picks the model's prompt where it has one, unless prompt_name does."
    )
    task: InputType | None = Field(None, description="Jina's name for `input_type`.")
    truncate: TruncationField | None = Field(
        None,
        description="What to cut from a text beyond the model's limit: none (answer 400), start or end; true is end.",
    )
    truncation: bool | None = Field(None, description="Voyage's name for `truncate`.")
    truncate_prompt_tokens: PromptTokensField | None = Field(
        None, description="vLLM's: -1 cuts the end of a text beyond the model's limit; other lengths are refused."
    )
    embedding_type: OutputTypesField | None = Field(
        None,
        description="Jina's and NIM's: type of the numbers, as a list of numbers (or base64 of float32). With several, "
        "`embedding` is an object with one entry for each.",
    )
    output_dtype: NumberType | None = Field(
        None, description="Voyage's: type of the numbers, which encoding_format may put into base64."
    )
    vector_type: Literal["dense", "late", "sparse"] | None = Field(
        "dense", description="One vector for each text, one for each of its tokens, or a weight for each term."
    )
    late_chunking: bool | None = Field(None, description="Jina's; true is refused.")

    @model_validator(mode="after")
    def _says_one_thing(self) -> "EmbeddingsRequest":
        for one, other in (("dimensions", "output_dimension"), ("input_type", "task")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise PydanticCustomError("invalid_value", f"send {one} or {other}, not both")
        typed = self.embedding_type is not None or self.output_dtype not in {None, "float"}
        if typed and (self._is_not_dense or (self.embedding_type and self.output_dtype)):
            raise PydanticCustomError(
                "invalid_value", "send one of embedding_type and output_dtype, and for dense vectors only"
            )
        if self.late_chunking:
            raise PydanticCustomError(
                "invalid_value",
                "late_chunking is not served; embed each chunk, or pool the token vectors of vector_type late",
            )
        return self

    @property
    def _is_not_dense(self) -> bool:
        return self.vector_type not in {None, "dense"}

    def job(self) -> EmbeddingJob:
        """Return the request without its dialects' synonyms."""
        return EmbeddingJob(
            texts=self.input,
            model=self.model,
            prompt_name=self.prompt_name,
            input_type=self.input_type or self.task,
            dimensions=self.dimensions or self.output_dimension,
            truncate=truncation(self.truncate) or truncation(self.truncation) or self.truncate_prompt_tokens,
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


def router(embedder: Embedder, representer: Representer) -> APIRouter:
    """Return the routes of this resource."""
    routes = APIRouter(route_class=Route, tags=["embeddings"])

    @routes.post(
        "/v1/embeddings",
        summary="Embed texts",
        responses={200: {"model": EmbeddingsResponse}, **errors()},
        openapi_extra=takes(EmbeddingsRequest, _EXAMPLE),
    )
    async def create_embeddings(request: Request) -> Response:
        body = await read_body(request, EmbeddingsRequest)
        job, trace = body.job(), trace_of(request)
        try:
            return await answer(body, job, trace)
        except ModelNotFoundError:
            name, _, kind = (job.model or "").rpartition("-")
            if kind not in {"query", "passage"} or job.input_type is not None:
                raise
            return await answer(body, replace(job, model=name, input_type=kind), trace)

    async def answer(body: EmbeddingsRequest, job: EmbeddingJob, trace: Trace) -> Response:
        if body.vector_type == "late":
            late = await representer.embed_tokens(job, trace)
            packed = in_base64(late.vectors) if body.encoding_format == "base64" else late.vectors
            shapes = [{"shape": vectors.shape} for vectors in late.vectors]
            return _response(late.model, late.tokens, packed, shapes)
        if body.vector_type == "sparse":
            sparse = await representer.embed_sparse(job, trace)
            return _response(sparse.model, sparse.tokens, [vector._asdict() for vector in sparse.vectors])
        embedded = await embedder.embed(job, trace)
        return _response(embedded.model, embedded.tokens, _dense(body, embedded))

    return routes


def _dense(body: EmbeddingsRequest, embedded: Embedded) -> list[Any]:
    if body.embedding_type is not None:
        by_type = {kind: encode(embedded.vectors, kind) for kind in body.embedding_type}
        if len(by_type) == 1:
            return next(iter(by_type.values()))
        return [dict(zip(by_type, kinds, strict=True)) for kinds in zip(*by_type.values(), strict=True)]
    rows = numbers(embedded.vectors, body.output_dtype or "float")
    return in_base64(rows) if body.encoding_format == "base64" else list(rows)


def _response(model: str, tokens: int, embeddings: list[Any], extras: list[dict[str, Any]] | None = None) -> Response:
    data = [
        {"object": "embedding", "index": index, "embedding": embedding, **(extras[index] if extras else {})}
        for index, embedding in enumerate(embeddings)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_response({"object": "list", "data": data, "model": model, "usage": usage})
