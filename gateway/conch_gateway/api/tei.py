"""`/embed`, `/embed_all`, `/embed_sparse`, `/similarity`, `/predict` and `/`, of text-embeddings-inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from conch_client import SparseVector
from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema, model_validator
from starlette.requests import Request

from conch_gateway.api.fields import options
from conch_gateway.api.fields.body import Example, RequestBody, invalid, optional, without_nulls, wrong_type
from conch_gateway.api.fields.texts import TEXT, TEXTS, TextsField, list_of, texts_of
from conch_gateway.api.route import Route, Router
from conch_gateway.api.services import Services
from conch_gateway.errors import Problem
from conch_gateway.jobs import ClassificationJob, EmbeddingJob, Texts
from conch_gateway.telemetry.request import context_of

_ErrorType = Literal["Validation", "Overloaded", "Unhealthy", "Backend"]
_ERROR_TYPES: Mapping[int, _ErrorType] = {429: "Overloaded", 503: "Unhealthy"}


class TeiError(BaseModel):
    """The shape of an error of text-embeddings-inference."""

    error: str
    error_type: _ErrorType


class TeiRoute(Route):
    """Answers errors as text-embeddings-inference does."""

    error_model = TeiError

    @classmethod
    def error_body(cls, problem: Problem) -> Mapping[str, Any]:
        """Return `{"error", "error_type"}`."""
        kind = _ERROR_TYPES.get(problem.status, "Backend" if problem.status >= 500 else "Validation")
        return {"error": problem.message, "error_type": kind}


class Sentences(list[str]):
    """A sentence, and after it those to compare with it."""


class Sequences(NamedTuple):
    """Texts and pairs of texts, and whether they came as a list."""

    each: list[str | tuple[str, str]]
    are_listed: bool


def _sentences(value: Any) -> Sentences:
    source, others = (value.get("source_sentence"), value.get("sentences")) if isinstance(value, dict) else (None, None)
    if not isinstance(source, str) or not isinstance(others, list) or set(map(type, others)) - {str}:
        raise wrong_type('must be an object such as {"source_sentence": "...", "sentences": ["..."]}')
    if not source or not others or not all(others):
        raise invalid("has an empty text; send a source_sentence, and at least one of sentences")
    return Sentences([source, *others])


def _texts_or_sentences(value: object) -> Texts | Sentences:
    return _sentences(value) if isinstance(value, dict) else texts_of(value)


def _sequences(value: Any) -> Sequences:
    listed = isinstance(value, list) and set(map(type, value)) == {list}
    return Sequences(list(map(_sequence, value if listed else [value])), listed)


def _sequence(value: Any) -> str | tuple[str, str]:
    texts: Any = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or set(map(type, texts)) != {str} or len(texts) > 2:
        raise wrong_type("must be a string, a list of one or two strings, or a list of such lists")
    first: str = texts[0]
    if len(texts) == 2:
        return first, texts[1]
    if not first:
        raise invalid("has an empty text; leave it out or send some text")
    return first


_SENTENCES_SCHEMA = {
    "type": "object",
    "properties": {"source_sentence": TEXT, "sentences": list_of(TEXT)},
    "required": ["source_sentence", "sentences"],
}
_STRING = {"type": "string"}
_PAIR = {"type": "array", "prefixItems": [TEXT, _STRING], "items": _STRING, "minItems": 1, "maxItems": 2}

_SentencesField = Annotated[Sentences, PlainValidator(_sentences), WithJsonSchema(_SENTENCES_SCHEMA)]
_TextsOrSentencesField = Annotated[
    Texts | Sentences, PlainValidator(_texts_or_sentences), WithJsonSchema({"anyOf": [*TEXTS, _SENTENCES_SCHEMA]})
]
_SequencesField = Annotated[
    Sequences, PlainValidator(_sequences), WithJsonSchema({"anyOf": [TEXT, _PAIR, list_of(_PAIR)]})
]


class TeiRequest(RequestBody):
    """Fields of all requests; `model` is conch's own, for a gateway with several."""

    model: options.AnyModel = None
    truncate: options.TruncateOption = None
    truncation_direction: options.Direction = None
    parameters: dict[str, Any] | None = optional("The other fields may be in here, as Hugging Face has them.")

    @model_validator(mode="before")
    @classmethod
    def _flattened(cls, content: Any) -> Any:
        parameters = content.get("parameters")
        return {**without_nulls(parameters), **content} if isinstance(parameters, dict) else content


class TextsRequest(TeiRequest):
    """Fields of all requests for vectors."""

    example: ClassVar[Example] = {"inputs": ["How do I reverse a list?", "list.reverse() reverses in place."]}

    prompt_name: options.PromptName = None
    normalize: options.Normalize = None
    dimensions: options.Dimensions = None
    encoding_format: Annotated[Any, options.Unserved("Of other servers", "ask /v1/embeddings", taken="float")] = None

    def job(self, texts: Texts, *, normalize: bool | None = True) -> EmbeddingJob:
        """Return the job; `normalize` applies where the request does not say."""
        return EmbeddingJob(
            texts=texts,
            model=self.model,
            prompt_name=self.prompt_name,
            dimensions=self.dimensions,
            truncate=options.truncation(self.truncate, self.truncation_direction),
            normalize=normalize if self.normalize is None else self.normalize,
        )


class EmbedRequest(TextsRequest):
    """Texts or token ids."""

    inputs: TextsField = Field(description="Text or texts, or their token ids (special tokens included).")


class SparseRequest(EmbedRequest):
    """Texts or token ids, of which terms are weighed."""

    normalize: Annotated[
        Any, options.Unserved("Of other servers", "weights are as the model gives them; leave it out", taken=False)
    ] = None


class SimilarityRequest(TextsRequest):
    """A sentence, and others to compare with it."""

    example: ClassVar[Example] = {
        "inputs": {
            "source_sentence": "How do I reverse a list?",
            "sentences": ["list.reverse() reverses in place.", "A tuple cannot be changed."],
        }
    }

    inputs: _SentencesField = Field(description="The sentence, and those to compare with it.")


class RootRequest(TextsRequest):
    """Texts to embed, or sentences to compare."""

    inputs: _TextsOrSentencesField = Field(description="Texts to embed, or sentences to compare.")


class PredictRequest(TeiRequest):
    """Texts or pairs of texts for a classifier, or pairs for a reranker."""

    example: ClassVar[Example] = {"inputs": [["How do I reverse a list?", "list.reverse() reverses in place."]]}

    inputs: _SequencesField = Field(
        description="A text, a list of one text, a list of two that are a pair, or a list of such lists."
    )
    raw_scores: options.RawScores = False

    def job(self) -> ClassificationJob:
        """Return the job that the request describes."""
        return ClassificationJob(
            inputs=self.inputs.each,
            model=self.model,
            raw_scores=self.raw_scores,
            truncate=options.truncation(self.truncate, self.truncation_direction),
        )


class TermWeight(BaseModel):
    """A term of a sparse vector."""

    index: int
    value: float


class LabelScore(BaseModel):
    """The score of a label; rerankers have one label, `LABEL_0`."""

    score: float
    label: str


def router(services: Services) -> Router:
    """Return the routes of this dialect that compute."""
    routes = Router(TeiRoute, tag="tei")
    inference = services.inference

    async def vectors(job: EmbeddingJob, request: Request) -> Any:
        return list((await inference.embed(job, context_of(request))).given)

    async def cosines(job: EmbeddingJob, request: Request) -> Any:
        embedded = (await inference.embed(replace(job, normalize=True), context_of(request))).given
        return embedded[1:] @ embedded[0]

    @routes.on_post("/embed", EmbedRequest, list[list[float]], "Embed texts, as TEI does")
    async def embed(body: EmbedRequest, request: Request) -> Any:
        return await vectors(body.job(body.inputs), request)

    @routes.on_post("/similarity", SimilarityRequest, list[float], "Compare a sentence, as TEI does")
    async def similarity(body: SimilarityRequest, request: Request) -> Any:
        return await cosines(body.job(body.inputs), request)

    @routes.on_post("/", RootRequest, list[list[float]] | list[float], "Embed texts or compare a sentence, as TEI does")
    async def root(body: RootRequest, request: Request) -> Any:
        compute = cosines if isinstance(body.inputs, Sentences) else vectors
        return await compute(body.job(body.inputs), request)

    @routes.on_post("/embed_all", EmbedRequest, list[list[list[float]]], "Embed every token, as TEI does")
    async def embed_all(body: EmbedRequest, request: Request) -> Any:
        return (await inference.embed_tokens(body.job(body.inputs, normalize=None), context_of(request))).given

    @routes.on_post("/embed_sparse", SparseRequest, list[list[TermWeight]], "Weigh terms, as TEI does")
    async def embed_sparse(body: SparseRequest, request: Request) -> Any:
        return list(map(_weights, (await inference.embed_sparse(body.job(body.inputs), context_of(request))).given))

    @routes.on_post(
        "/predict",
        PredictRequest,
        list[LabelScore] | list[list[LabelScore]],
        "Classify texts or score pairs of texts, as TEI does",
    )
    async def predict(body: PredictRequest, request: Request) -> Any:
        classified = (await inference.classify(body.job(), context_of(request))).given
        predictions = [[each._asdict() for each in labels] for labels in classified]
        return predictions if body.inputs.are_listed else predictions[0]

    return routes


def _weights(vector: SparseVector) -> list[dict[str, Any]]:
    pairs = zip(vector.indices.tolist(), vector.values.tolist(), strict=True)
    return [{"index": index, "value": value} for index, value in pairs]
