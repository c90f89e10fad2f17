"""`/embed`, `/embed_all`, `/embed_sparse`, `/similarity`, `/predict` and `/`, as text-embeddings-inference has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple

from conch_client import SparseVector
from fastapi import APIRouter
from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema, model_validator
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway.api.fields.body import RequestBody, invalid, read_body, without_nulls, wrong_type
from conch_gateway.api.fields.options import (
    AnyModel,
    Dimensions,
    Direction,
    Normalize,
    PromptName,
    RawScores,
    TruncationField,
    Unserved,
    truncation,
)
from conch_gateway.api.fields.texts import TEXT, TEXTS, TextsField, list_of, texts_of
from conch_gateway.api.route import Route, errors, json_response, takes
from conch_gateway.errors import Problem
from conch_gateway.inference.service import Inference
from conch_gateway.jobs import EmbeddingJob, PairJob, Texts
from conch_gateway.telemetry.request import context_of

_TEXTS = {"inputs": ["How do I reverse a list?", "list.reverse() reverses in place."]}
_SENTENCES = {
    "inputs": {
        "source_sentence": "How do I reverse a list?",
        "sentences": ["list.reverse() reverses in place.", "A tuple cannot be changed."],
    }
}
_PAIRS = {"inputs": [["How do I reverse a list?", "list.reverse() reverses in place."]]}
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


class Pairs(NamedTuple):
    """Pairs of texts, and whether they came as a list."""

    pairs: list[tuple[str, str]]
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


def _pairs(value: Any) -> Pairs:
    listed = isinstance(value, list) and set(map(type, value)) == {list}
    rows = value if listed else [value]
    for row in rows:
        if isinstance(row, str) or (isinstance(row, list) and len(row) == 1):
            raise invalid("is a single text, and no model that classifies such is served; send pairs of texts")
        if not isinstance(row, list) or set(map(type, row)) != {str} or len(row) != 2:
            raise wrong_type("must be a pair of strings or a list of such pairs")
    return Pairs([(first, second) for first, second in rows], listed)


_SENTENCES_SCHEMA = {
    "type": "object",
    "properties": {"source_sentence": TEXT, "sentences": list_of(TEXT)},
    "required": ["source_sentence", "sentences"],
}
_STRING = {"type": "string"}
_PAIR = {"type": "array", "prefixItems": [TEXT, _STRING], "items": _STRING, "minItems": 2, "maxItems": 2}

_SentencesField = Annotated[Sentences, PlainValidator(_sentences), WithJsonSchema(_SENTENCES_SCHEMA)]
_TextsOrSentencesField = Annotated[
    Texts | Sentences, PlainValidator(_texts_or_sentences), WithJsonSchema({"anyOf": [*TEXTS, _SENTENCES_SCHEMA]})
]
_PairsField = Annotated[Pairs, PlainValidator(_pairs), WithJsonSchema({"anyOf": [_PAIR, list_of(_PAIR)]})]


class TeiRequest(RequestBody):
    """What all requests share; `model` is conch's own, for a gateway with several."""

    model: AnyModel = None
    truncate: TruncationField | None = Field(
        None, description="Whether to cut a text beyond the model's limit; false answers 400."
    )
    truncation_direction: Direction = Field("Right", description="Left makes `truncate: true` cut the start.")
    parameters: dict[str, Any] | None = Field(
        None, description="The other fields may be in here, as Hugging Face has them."
    )

    @model_validator(mode="before")
    @classmethod
    def _flattened(cls, content: Any) -> Any:
        parameters = content.get("parameters")
        return {**without_nulls(parameters), **content} if isinstance(parameters, dict) else content


class TextsRequest(TeiRequest):
    """What requests for vectors share."""

    prompt_name: PromptName = None
    normalize: Normalize = None
    dimensions: Dimensions = None
    encoding_format: Annotated[
        Any, Unserved("Of other servers", "only float is served here; ask /v1/embeddings", taken=("float",))
    ] = None

    def job(self, texts: Texts, *, normalize: bool | None = True) -> EmbeddingJob:
        """Return the request in the gateway's own words; `normalize` is what applies where it says nothing."""
        return EmbeddingJob(
            texts=texts,
            model=self.model,
            prompt_name=self.prompt_name,
            dimensions=self.dimensions,
            truncate=truncation(self.truncate, self.truncation_direction),
            normalize=normalize if self.normalize is None else self.normalize,
        )


class EmbedRequest(TextsRequest):
    """Texts or token ids."""

    inputs: TextsField = Field(description="Text or texts, or their token ids (special tokens included).")


class SimilarityRequest(TextsRequest):
    """A sentence, and others to compare with it."""

    inputs: _SentencesField = Field(description="The sentence, and those to compare with it.")


class RootRequest(TextsRequest):
    """What either of the two takes."""

    inputs: _TextsOrSentencesField = Field(description="Texts to embed, or sentences to compare.")


class PredictRequest(TeiRequest):
    """Pairs of texts for a reranker."""

    inputs: _PairsField = Field(description="A pair of texts, or a list of pairs.")
    raw_scores: RawScores = False

    def job(self) -> PairJob:
        """Return the request in the gateway's own words."""
        return PairJob(
            pairs=self.inputs.pairs,
            model=self.model,
            raw_scores=self.raw_scores,
            truncate=truncation(self.truncate, self.truncation_direction),
        )


class TermWeight(BaseModel):
    """A term of a sparse vector."""

    index: int
    value: float


class Prediction(BaseModel):
    """A pair's score; rerankers have one label."""

    score: float
    label: Literal["LABEL_0"]


def router(service: Inference) -> APIRouter:
    """Return the routes of this dialect that compute."""
    routes = APIRouter(route_class=TeiRoute, tags=["tei"])

    async def vectors(request: Request, job: EmbeddingJob) -> Response:
        return json_response(list((await service.embed(job, context_of(request))).given))

    async def cosines(request: Request, job: EmbeddingJob) -> Response:
        embedded = await service.embed(replace(job, normalize=True), context_of(request))
        return json_response(embedded.given[1:] @ embedded.given[0])

    @routes.post("/embed", **_described("Embed texts", EmbedRequest, _TEXTS, list[list[float]]))
    async def embed(request: Request) -> Response:
        body = await read_body(request, EmbedRequest)
        return await vectors(request, body.job(body.inputs))

    @routes.post("/similarity", **_described("Compare a sentence", SimilarityRequest, _SENTENCES, list[float]))
    async def similarity(request: Request) -> Response:
        body = await read_body(request, SimilarityRequest)
        return await cosines(request, body.job(body.inputs))

    @routes.post(
        "/", **_described("Embed texts or compare a sentence", RootRequest, _TEXTS, list[list[float]] | list[float])
    )
    async def root(request: Request) -> Response:
        body = await read_body(request, RootRequest)
        ask = cosines if isinstance(body.inputs, Sentences) else vectors
        return await ask(request, body.job(body.inputs))

    @routes.post("/embed_all", **_described("Embed every token", EmbedRequest, _TEXTS, list[list[list[float]]]))
    async def embed_all(request: Request) -> Response:
        body = await read_body(request, EmbedRequest)
        late = await service.embed_tokens(body.job(body.inputs, normalize=None), context_of(request))
        return json_response(late.given)

    @routes.post("/embed_sparse", **_described("Weigh terms", EmbedRequest, _TEXTS, list[list[TermWeight]]))
    async def embed_sparse(request: Request) -> Response:
        body = await read_body(request, EmbedRequest)
        sparse = await service.embed_sparse(body.job(body.inputs), context_of(request))
        return json_response([_weights(vector) for vector in sparse.given])

    @routes.post(
        "/predict",
        **_described("Score pairs of texts", PredictRequest, _PAIRS, list[Prediction] | list[list[Prediction]]),
    )
    async def predict(request: Request) -> Response:
        body = await read_body(request, PredictRequest)
        scored = await service.score(body.job(), context_of(request))
        predictions = [[{"score": score, "label": "LABEL_0"}] for score in scored.given]
        return json_response(predictions if body.inputs.are_listed else predictions[0])

    return routes


def _described(summary: str, takes_model: type[TeiRequest], example: dict[str, Any], gives: Any) -> dict[str, Any]:
    return {
        "summary": f"{summary}, as TEI does",
        "responses": {200: {"model": gives}, **errors(TeiRoute)},
        "openapi_extra": takes(takes_model, example),
    }


def _weights(vector: SparseVector) -> list[dict[str, Any]]:
    pairs = zip(vector.indices.tolist(), vector.values.tolist(), strict=True)
    return [{"index": index, "value": value} for index, value in pairs]
