"""`POST /v1/embeddings` of OpenAI, with the fields that Jina, NIM, Voyage and vLLM added.

Azure's paths are the same; there the deployment is the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, cast

from conch_client import ModelNotFoundError
from pydantic import BaseModel, Field, model_validator
from starlette.requests import Request

from conch_gateway.api.fields import options
from conch_gateway.api.fields.body import Example, invalid, optional
from conch_gateway.api.fields.encodings import NumberType, OutputType, encode, numbers
from conch_gateway.api.fields.texts import InputField
from conch_gateway.api.route import ErrorEnvelope, Route, Router, path_parameter, token_usage
from conch_gateway.api.services import Services
from conch_gateway.errors import Problem
from conch_gateway.inference.service import Inference, Result
from conch_gateway.jobs import EmbeddingJob, InputType, Vectors
from conch_gateway.telemetry.request import RequestContext, context_of

_DEPLOYMENT = path_parameter("deployment", "Id of the model; the body's is not used.", "all-minilm-l6-v2")


class SharedError(ErrorEnvelope):
    """OpenAI's shape of an error, with Voyage's and Jina's `detail` and Cohere's `message`."""

    message: str
    detail: str


class SharedRoute(Route):
    """Answers errors as all dialects below `/v1/` do: OpenAI, Voyage, Jina, vLLM and Cohere's first version."""

    error_model = SharedError

    @classmethod
    def error_body(cls, problem: Problem) -> Mapping[str, Any]:
        """Return `{"error", "message", "detail"}`."""
        return {**super().error_body(problem), "message": problem.message, "detail": problem.message}


class EmbeddingsRequest(options.VectorOptions, options.TruncationOptions):
    """OpenAI's fields, and those of other servers that speak its dialect; unknown ones are ignored."""

    example: ClassVar[Example] = {
        "model": "all-minilm-l6-v2",
        "input": ["How do I reverse a list?", "list.reverse() reverses in place."],
    }
    synonyms = (("dimensions", "output_dimension"), ("input_type", "task"), ("embedding_type", "encoding_type"))

    input: InputField = Field(
        description='Text or texts, also as Jina\'s {"text": ...}, or their token ids (special tokens included).'
    )
    model: options.Name | None = optional(
        "Id of an embedding model; may be left out where there is one. Where no model has the name, an "
        "ending of -query or -passage is taken for `input_type`, as NIM does."
    )
    dimensions: options.Dimensions = None
    output_dimension: int | None = optional("Voyage's name for `dimensions`.", ge=1)
    user: Any = optional("Accepted for compatibility; not used.")
    prompt_name: options.PromptName = None
    instruction: options.Instruction = optional(
        "What the queries are for, instead of the instruction in the model's prompt; refused where that has none."
    )
    input_type: InputType | None = optional(
        "What the texts are for: picks the model's prompt where it has one, unless prompt_name does."
    )
    task: InputType | None = optional("Jina's name for `input_type`.")
    truncate: options.TruncateOption = None
    truncation: options.Flag | None = optional("Voyage's name for `truncate`.")
    normalized: options.Flag | None = optional("Jina's name for `normalize`.")
    embedding_type: options.OutputTypesField | None = optional(
        "Jina's and NIM's: type of the numbers, as a list of numbers (or base64 of float32). With several, "
        "`embedding` is an object with one entry for each."
    )
    encoding_type: options.OutputTypesField | None = optional("Jina's older name for `embedding_type`.")
    output_dtype: NumberType | None = optional(
        "Voyage's: type of the numbers, which encoding_format may put into base64."
    )
    vector_type: Literal["dense", "late", "sparse"] = Field(
        "dense", description="One vector for each text, one for each of its tokens, or a weight for each term."
    )
    late_chunking: options.Flag = Field(
        default=False,
        description="Jina's: the texts are the chunks of one document. They are joined as they are, read as a whole, "
        "and each vector is the mean over a chunk's tokens.",
    )
    expect_space: str | None = optional(
        "`space_id` of a model: the answer is in this vector space, and repeats it, or the request is refused with "
        "409. ~ before it also takes a bridge into that space. The header x-conch-expect-space says the same in every "
        "dialect.",
        max_length=64,
    )
    return_multivector: Annotated[Any, options.Unserved("Jina's", "ask for vector_type late", taken=False)] = None
    modality: Annotated[Any, options.Unserved("NIM's and infinity's", "send text", taken="text")] = None
    messages: Annotated[Any, options.Unserved("vLLM's", "send texts as input")] = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> EmbeddingsRequest:
        typed = bool(self.types) or self.output_dtype not in {None, "float"}
        if self.late_chunking and self.vector_type != "dense":
            raise invalid("late_chunking: chunks have dense vectors only; leave vector_type out")
        if typed and (self.vector_type != "dense" or (self.types and self.output_dtype)):
            raise invalid("send one of embedding_type and output_dtype, and for dense vectors only")
        if self.vector_type == "sparse" and True in self.normalize_words:
            raise invalid("normalize: weights of terms are as the model gives them; leave it out")
        if not self.unit_length and {"int8", "uint8"} & {*self.types, self.output_dtype}:
            raise invalid("normalize: numbers of eight bits are for vectors of length 1; leave it out")
        return self

    @property
    def types(self) -> tuple[OutputType, ...]:
        """Types of the numbers, for lists of numbers; without any, float in the encoding of `encoding_format`."""
        return self.embedding_type or self.encoding_type or ()

    @property
    def normalize_words(self) -> tuple[bool | None, ...]:
        """All fields that say whether vectors have length 1."""
        return *super().normalize_words, self.normalized

    def job(self) -> EmbeddingJob:
        """Return the job that the request describes, without synonyms."""
        return EmbeddingJob(
            texts=self.input,
            model=self.model,
            prompt_name=self.prompt_name,
            instruction=self.instruction,
            input_type=self.input_type or self.task,
            dimensions=self.dimensions or self.output_dimension,
            truncate=options.truncation(self.truncate) or options.truncation(self.truncation) or self.cut,
            normalize=self.unit_length,
            expect_space=self.expect_space,
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
    shape: list[int] | None = optional("Of token vectors: how many, and of which dimension.")


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
    space_id: str | None = optional("Of the vectors, where the request states `expect_space`.")


def router(services: Services) -> Router:
    """Return the routes of this dialect."""
    routes = Router(SharedRoute, tag="embeddings")

    @routes.on_post(
        "/openai/deployments/{deployment:path}/embeddings",
        EmbeddingsRequest,
        EmbeddingsResponse,
        "Embed texts, at Azure's older path",
        parameters=(_DEPLOYMENT,),
    )
    @routes.on_post("/openai/v1/embeddings", EmbeddingsRequest, EmbeddingsResponse, "Embed texts, at Azure's path")
    @routes.on_post("/v1/embeddings", EmbeddingsRequest, EmbeddingsResponse, "Embed texts")
    async def create_embeddings(body: EmbeddingsRequest, request: Request) -> Any:
        job, context = body.job(), context_of(request)
        if "deployment" in request.path_params:
            job = replace(job, model=request.path_params["deployment"])
        return await embeddings(services.inference, body, job, context)

    return routes


async def embeddings(
    inference: Inference, body: EmbeddingsRequest, job: EmbeddingJob, context: RequestContext
) -> dict[str, Any]:
    """Return the content of the answer to a request, of which `job` is what is computed."""
    try:
        return await _answer(inference, body, job, context)
    except ModelNotFoundError:
        name, _, kind = (job.model or "").rpartition("-")
        if kind not in {"query", "passage"} or job.input_type is not None:
            raise
        job = replace(job, model=name, input_type=cast("InputType", kind))
        return await _answer(inference, body, job, context)


async def _answer(
    inference: Inference, body: EmbeddingsRequest, job: EmbeddingJob, context: RequestContext
) -> dict[str, Any]:
    result: Result[Any]
    if body.vector_type == "late":
        result = await inference.embed_tokens(job, context)
        packed = zip(body.packed(result.given), result.given, strict=True)
        items = [{"embedding": embedding, "shape": vectors.shape} for embedding, vectors in packed]
    elif body.vector_type == "sparse":
        result = await inference.embed_sparse(job, context)
        items = [{"embedding": vector._asdict()} for vector in result.given]
    else:
        embed = inference.embed_chunks if body.late_chunking else inference.embed
        result = await embed(job, context)
        items = [{"embedding": embedding} for embedding in _dense(body, result.given)]
    data = [{"object": "embedding", "index": index, **item} for index, item in enumerate(items)]
    answer = {"object": "list", "data": data, "model": result.model, "usage": token_usage(result.usage.tokens)}
    return answer if body.expect_space is None else {**answer, "space_id": result.usage.space_id}


def _dense(body: EmbeddingsRequest, vectors: Vectors) -> list[Any]:
    if not body.types:
        return body.packed(numbers(vectors, body.output_dtype or "float"))
    by_type = {kind: encode(vectors, kind) for kind in body.types}
    if len(by_type) == 1:
        return next(iter(by_type.values()))
    return [dict(zip(by_type, kinds, strict=True)) for kinds in zip(*by_type.values(), strict=True)]
