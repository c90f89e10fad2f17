"""`GET /v1/models`: the models, in OpenAI's shape and Cohere's, with the facts of their export."""

from __future__ import annotations

import time
from typing import Any, Literal

from conch_client import ModelInfo
from conch_contract import Task
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from conch_gateway.api.route import Router, path_parameter
from conch_gateway.api.services import Services
from conch_gateway.jobs import RERANKING
from conch_gateway.telemetry.request import context_of

_MODEL_ID = path_parameter("model_id", "Id of the model; may contain slashes.", "all-minilm-l6-v2")
_ENDPOINTS = {"embed": {Task.EMBEDDING}, "rerank": RERANKING}
_FACTS = (
    "task",
    "base",
    "architecture",
    "precision",
    "description",
    "dimension",
    "max_length",
    "pooling",
    "space_id",
    "bridges_to",
    "normalized",
    "prompts",
    "default_prompt_name",
    "matryoshka_dimensions",
    "labels",
    "activation",
    "source",
    "revision",
    "weights_sha256",
    "tokenizer_sha256",
    "ready",
)


class CohereEntry(BaseModel):
    """A model as Cohere describes it."""

    name: str
    endpoints: list[Literal["embed", "rerank"]]
    context_length: int


class ModelEntry(CohereEntry):
    """A model; fields that do not apply to its task are left out."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    task: str
    max_length: int
    dimension: int | None = None
    pooling: str | None = None
    space_id: str | None = None
    bridges_to: str | None = None
    precision: str
    source: str
    revision: str


class ModelsResponse(BaseModel):
    """All models by name; Cohere's clients read `models`, which `?endpoint=` restricts to one endpoint."""

    object: Literal["list"]
    data: list[ModelEntry]
    models: list[CohereEntry]


def router(services: Services) -> Router:
    """Return the routes of this resource."""
    routes = Router(tag="models")
    models, created = services.models, int(time.time())

    @routes.on_get("/v1/models", ModelsResponse, "List models")
    async def list_models(request: Request) -> Any:
        listed = await models.listed(context_of(request).key)
        endpoint = request.query_params.get("endpoint")
        of_cohere = [_cohere_entry(info) for info in listed]
        return {
            "object": "list",
            "data": [_entry(info, created) for info in listed],
            "models": [entry for entry in of_cohere if endpoint in {None, *entry["endpoints"]}],
        }

    @routes.on_get(
        "/v1/models/{model_id:path}", ModelEntry, "Describe a model", openapi_extra={"parameters": [_MODEL_ID]}
    )
    async def describe_model(request: Request) -> Any:
        info = await models.describe(request.path_params["model_id"], context_of(request).key)
        return _entry(info, created)

    return routes


def _entry(info: ModelInfo, created: int) -> dict[str, Any]:
    facts = {fact: getattr(info, fact) for fact in _FACTS if getattr(info, fact) is not None}
    return {
        "id": info.name,
        "object": "model",
        "created": created,
        "owned_by": "conch",
        **_cohere_entry(info),
        **facts,
    }


def _cohere_entry(info: ModelInfo) -> dict[str, Any]:
    endpoints = [name for name, tasks in _ENDPOINTS.items() if info.task in tasks]
    return {"name": info.name, "endpoints": endpoints, "context_length": info.max_length}
