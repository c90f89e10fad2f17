"""`/v2/embed` and `/v1/embed` of Cohere; its rerankings are in `rerank`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema
from starlette.requests import Request

from conch_gateway.api.fields import options
from conch_gateway.api.fields.body import Example, RequestBody, invalid, optional, wrong_type
from conch_gateway.api.fields.encodings import encode
from conch_gateway.api.fields.texts import TEXT, StringsField, list_of, object_with, strings_of
from conch_gateway.api.route import Route, Router
from conch_gateway.api.services import Services
from conch_gateway.errors import Problem
from conch_gateway.jobs import EmbeddingJob, InputType
from conch_gateway.telemetry.request import context_of

_SUMMARY = "Embed texts, as Cohere does"


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

    example: ClassVar[Example] = {
        "model": "all-minilm-l6-v2",
        "texts": ["How do I reverse a list?"],
        "input_type": "search_query",
        "embedding_types": ["float", "int8"],
    }
    needed = (("texts", "inputs"),)

    texts: StringsField | None = optional("Texts to embed.")
    inputs: _InputsField | None = optional("Texts to embed, each in parts that are joined by newlines.")
    images: Annotated[Any, options.Unserved("Cohere's", "send texts")] = None
    model: options.EmbeddingModel = None
    input_type: InputType | None = optional("What the texts are for: picks the model's prompt.")
    embedding_types: options.OutputTypesField | None = optional("Types of the numbers; float where left out.")
    output_dimension: options.Dimensions = None
    truncate: options.TruncateOption = None
    max_tokens: Annotated[Any, options.Unserved("Cohere's", "texts are cut to the model's limit; leave it out")] = None

    @property
    def given_texts(self) -> list[str]:
        """The texts, however they came."""
        return self.texts or self.inputs or []

    def job(self) -> EmbeddingJob:
        """Return the job that the request describes."""
        return EmbeddingJob(
            texts=self.given_texts,
            model=self.model,
            input_type=self.input_type,
            dimensions=self.output_dimension,
            truncate=options.truncation(self.truncate),
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


def router(services: Services) -> Router:
    """Return the routes of this dialect."""
    routes = Router(CohereRoute, tag="embeddings")

    @routes.on_post("/v2/embed", CohereEmbedRequest, CohereEmbedResponse, _SUMMARY)
    @routes.on_post("/v1/embed", CohereEmbedRequest, CohereEmbedResponse, _SUMMARY, name="embed_first_version")
    async def embed(body: CohereEmbedRequest, request: Request) -> Any:
        embedded = await services.inference.embed(body.job(), context_of(request))
        version = "1" if request.scope["route"].path == "/v1/embed" else "2"
        by_type = {kind: encode(embedded.given, kind) for kind in body.embedding_types or ("float",)}
        bare = version == "1" and body.embedding_types is None
        return {
            "response_type": "embeddings_floats" if bare else "embeddings_by_type",
            "id": context_of(request).request_id,
            "embeddings": by_type["float"] if bare else by_type,
            "texts": body.given_texts,
            "meta": {"api_version": {"version": version}, "billed_units": {"input_tokens": embedded.usage.tokens}},
        }

    return routes
