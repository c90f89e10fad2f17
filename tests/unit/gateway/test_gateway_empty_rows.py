"""A text without any token is refused with 400 by every route, and nothing of it reaches the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from conch_client import AsyncClient
from conch_client.testing import FakeServer
from conch_gateway import GatewaySettings, create_app

from tests.unit.client.test_client_empty_rows import model, rows_received

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

NOTHING = "\u0000"
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "a text": ("/v1/embeddings", {"model": "embed", "input": ["fine", NOTHING]}),
    "a text for token vectors": ("/embed_all", {"model": "tokens", "inputs": ["fine", NOTHING]}),
    "a text for words": ("/embed_sparse", {"model": "sparse", "inputs": ["fine", NOTHING]}),
    "ids": ("/v1/embeddings", {"model": "embed", "input": [[1, 2], []]}),
    "a pair": ("/v2/rerank", {"model": "pairs", "query": NOTHING, "documents": ["fine", NOTHING]}),
    "a pair in a template": ("/v2/rerank", {"model": "framed", "query": NOTHING, "documents": ["fine", NOTHING]}),
    "a query": ("/v2/rerank", {"model": "late", "query": NOTHING, "documents": ["fine"]}),
    "a document": ("/v2/rerank", {"model": "late", "query": "fine", "documents": ["fine", NOTHING]}),
}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    models = {
        "embed": model("embedding"),
        "tokens": model("multi-vector"),
        "sparse": model("sparse"),
        "pairs": model("cross-encoder"),
        "framed": model("cross-encoder", pair_template="{query} {document}"),
        "late": model("late-interaction"),
    }
    with FakeServer(models) as server:
        yield server


@pytest.fixture
async def http(server: FakeServer) -> AsyncIterator[httpx.AsyncClient]:
    async with AsyncClient(server.url) as client:
        app = create_app(GatewaySettings(), client)
        asked = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
        async with app.router.lifespan_context(app), asked as http:
            yield http


@pytest.mark.parametrize(("url", "body"), BODIES.values(), ids=BODIES)
async def test_it_is_refused(http: httpx.AsyncClient, server: FakeServer, url: str, body: dict[str, Any]) -> None:
    response = await http.post(url, json=body)
    assert response.status_code in (400, 422), response.text
    assert "has no token" in response.text or "empty" in response.text or "at least 1" in response.text
    assert all(0 not in shape for shape in rows_received(server))
