"""TEI's routes about itself and its tokenizer: `/tokenize`, `/decode`, `/info`, `/health` and `/ping`."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any, ClassVar

from conch_client import ModelInfo
from conch_contract import Task
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from conch_gateway.api.fields.body import Example, RequestBody
from conch_gateway.api.fields.options import AnyModel, Flag, PromptName
from conch_gateway.api.fields.texts import IdsField, StringsField
from conch_gateway.api.route import Router, json_response
from conch_gateway.api.services import Services
from conch_gateway.api.tei import TeiRoute
from conch_gateway.errors import InvalidValueError
from conch_gateway.models.registry import Served
from conch_gateway.settings import GatewaySettings
from conch_gateway.telemetry.request import context_of

_LONGEST = 2**17  # characters or token ids


class TokenizeRequest(RequestBody):
    """Texts; `model` is conch's own, for a gateway with several."""

    example: ClassVar[Example] = {"inputs": ["How do I reverse a list?"]}

    inputs: StringsField = Field(description="Text or texts.")
    model: AnyModel = None
    add_special_tokens: Flag = Field(default=True, description="Include those that the model's template adds.")
    prompt_name: PromptName = None


class DecodeRequest(RequestBody):
    """Token ids; `model` is conch's own, for a gateway with several."""

    example: ClassVar[Example] = {"ids": [[101, 2129, 102]]}

    ids: IdsField = Field(description="Token ids, or rows of them.")
    model: AnyModel = None
    skip_special_tokens: Flag = Field(default=True, description="Leave out what the model's template added.")


class TeiToken(BaseModel):
    """A token and its place in the text, in characters, behind which the prompt counts too."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class TeiInfo(BaseModel):
    """The model that answers requests that name none, and the gateway's limits."""

    model_id: str
    model_sha: str
    model_dtype: str
    model_type: dict[str, dict[str, Any]]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str


def router(services: Services) -> Router:
    """Return the routes of this dialect that compute nothing."""
    routes = Router(TeiRoute, tag="tei")
    inference = services.inference

    @routes.on_post("/tokenize", TokenizeRequest, list[list[TeiToken]], "Split texts into tokens, as TEI does")
    async def tokenize(body: TokenizeRequest, request: Request) -> Any:
        _check_length(sum(map(len, body.inputs)), "characters", "inputs")
        tokens = await inference.tokens(
            body.inputs,
            body.model,
            context_of(request),
            prompt_name=body.prompt_name,
            add_special_tokens=body.add_special_tokens,
        )
        # In a thread: some hundred thousand tokens would keep other requests waiting.
        return await asyncio.to_thread(lambda: json_response([[token._asdict() for token in row] for row in tokens]))

    @routes.on_post("/decode", DecodeRequest, list[str], "Join tokens to texts, as TEI does")
    async def decode(body: DecodeRequest, request: Request) -> Any:
        _check_length(sum(map(len, body.ids)), "token ids", "ids")
        return await inference.decode(
            body.ids, body.model, context_of(request), skip_special_tokens=body.skip_special_tokens
        )

    @routes.on_get("/info", TeiInfo, "Describe the model, as TEI does")
    async def describe(request: Request) -> Any:
        await request.body()  # none, but from its end on the time counts, and a caller who leaves is noticed
        return _info(await inference.default_model(context_of(request)), services.settings)

    about = "Would requests be answered, as TEI says it: without a body"
    unready = {503: {"description": "They would not."}}

    @routes.route("/ping", summary=about, response_class=Response, responses=unready)
    @routes.route("/health", summary=about, response_class=Response, responses=unready)
    async def health(_: Request) -> Response:
        verdict = await services.readiness.verdict()
        return Response(status_code=200 if verdict.ready else 503)

    return routes


def _check_length(length: int, of: str, param: str) -> None:
    """Refuse what would take long: every token goes into the answer, which would be of many megabytes."""
    if length > _LONGEST:
        msg = f"{length} {of} are too many; send at most {_LONGEST} in one request"
        raise InvalidValueError(msg, param=param)


def _info(model: Served, settings: GatewaySettings) -> dict[str, Any]:
    info = model.info
    return {
        "model_id": model.name,
        "model_sha": info.weights_sha256,
        "model_dtype": info.precision,
        "model_type": _kind(info),
        "max_concurrent_requests": settings.max_in_flight_requests,
        "max_input_length": info.max_length,
        "max_batch_tokens": info.max_rows * info.max_length,
        "max_client_batch_size": settings.max_inputs,
        "auto_truncate": settings.truncate != "none",
        "tokenization_workers": 1,
        "version": version("conch"),
    }


def _kind(info: ModelInfo) -> dict[str, Any]:
    if info.task == Task.EMBEDDING:
        return {"embedding": {"pooling": info.pooling}}
    if info.labels is None:
        return {"reranker": {}}
    numbered = {str(number): label for number, label in enumerate(info.labels)}
    return {"classifier": {"id2label": numbered, "label2id": {label: int(key) for key, label in numbered.items()}}}
