"""The endpoints that lines of a batch may name, each called without HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from secrets import token_hex
from typing import Any

import orjson

from conch_gateway.api.cohere import CohereRoute
from conch_gateway.api.fields.body import Body, checked, parse_json, parsed, without_nulls
from conch_gateway.api.openai import EmbeddingsRequest, SharedRoute, embeddings
from conch_gateway.api.rerank import RerankRequest, ranking
from conch_gateway.batches.computing import Endpoint
from conch_gateway.batches.records import LinePath
from conch_gateway.inference.service import Inference
from conch_gateway.telemetry.request import RequestContext


def endpoints(inference: Inference) -> Mapping[str, Endpoint]:
    """Return the endpoints by path."""

    async def embed(line: bytes, context: RequestContext) -> Any:
        body = await parsed(line, _body_of, EmbeddingsRequest)
        return await embeddings(inference, body, body.job(), context)

    async def rank(path: LinePath, line: bytes, context: RequestContext) -> Any:
        return await ranking(inference, await parsed(line, _body_of, RerankRequest), context, path)

    return {
        "/v1/embeddings": Endpoint(embed, _control, SharedRoute.error_body),
        "/v1/rerank": Endpoint(partial(rank, "/v1/rerank"), _control, SharedRoute.error_body),
        "/v2/rerank": Endpoint(partial(rank, "/v2/rerank"), _control, CohereRoute.error_body),
    }


def _body_of(line: bytes, model: type[Body]) -> Body:
    return checked(parse_json(line)["body"], model)


def _control(line: bytes) -> bytes:
    # A null is no field: filled with a text, it would be one too many.
    body = without_nulls(parse_json(line)["body"])
    word = f"ready {token_hex(4)}"  # not the same each time: it would be cached
    short = {"input": word, "query": word, "documents": [word], "texts": [word]}
    return orjson.dumps({"body": {**body, **{name: short[name] for name in short.keys() & body.keys()}}})
