"""Who may use which route: every route of the application, with every kind of key, however its path is written."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from conch_gateway import GatewaySettings, create_app
from conch_gateway.auth.keys import create_key
from starlette.routing import Route

from tests.unit.gateway.conftest import StandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.applications import Starlette

OPEN = {
    *("GET /", "GET /docs", "GET /health", "GET /ping", "GET /health/live", "GET /health/ready"),
    *("GET /v1/health/live", "GET /v1/health/ready"),
}
FOR_ALL_MODELS = {"GET /metrics"}
ADMIN = {
    *("GET /admin/models", "POST /admin/reload"),
    *("POST /admin/models/{model_id:path}/load", "POST /admin/models/{model_id:path}/unload"),
}
# Without a model, or with one that there is not, these still have something to tell.
WITHOUT_MODELS = {
    *("GET /openapi.json", "GET /v1/models", "GET /api/tags", "GET /api/version", "GET /web", "POST /api/pull"),
}
SPELLINGS = ("{}", "/{}", "{}/", "{}%0A", "{}%00", "{}?a=b", "/%{1:x}{2}")
PARAMETERS = {"{model_id:path}": "letters", "{deployment:path}": "letters"}
SERVED = ("letters", "overlap")


def all_routes(app: Starlette) -> list[tuple[str, str]]:
    routes = [route for route in app.routes if isinstance(route, Route)]
    return [(method, route.path) for route in routes for method in sorted({*(route.methods or ())} - {"HEAD"})]


ROUTES = all_routes(create_app(GatewaySettings(), StandIn()))
SHUT = [(method, path) for method, path in ROUTES if f"{method} {path}" not in OPEN]
REFUSED = {401, 403, 404}
BODY = {"input": "a", "text": "a", "query": "a", "documents": ["a"], "prompt": "a"}


class Gate:
    """A gateway with keys, and what each kind of caller brings."""

    def __init__(self, http: httpx.AsyncClient, keys: dict[str, dict[str, str]]) -> None:
        self._http = http
        self._keys = keys

    async def ask(self, who: str, method: str, path: str) -> httpx.Response:
        url, body = f"http://conch{path}", BODY if method == "POST" else None
        return await self._http.request(method, url, json=body, headers=self._keys[who])


@pytest.fixture(scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    secrets = {
        "wrong": "conch-wrong",
        "of another model": create_key(file, "other", models=["elsewhere"]),
        "good": create_key(file, "good"),
        "admin": create_key(file, "root", admin=True),
    }
    keys = {"none": {}, **{who: {"authorization": f"Bearer {secret}"} for who, secret in secrets.items()}}
    async with _serving(api_keys_file=file) as http:
        yield Gate(http, keys)


@asynccontextmanager
async def _serving(root_path: str = "", **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(GatewaySettings(**settings), StandIn())
    transport = httpx.ASGITransport(app, root_path=root_path)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://conch") as http,
    ):
        yield http


def test_every_route_that_is_open_or_shut_to_some_is_there() -> None:
    assert {f"{method} {path}" for method, path in ROUTES} >= OPEN | FOR_ALL_MODELS | ADMIN | WITHOUT_MODELS


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda value: value)
async def test_each_kind_of_key_opens_what_it_is_for(gate: Gate, method: str, path: str) -> None:
    route, path = f"{method} {path}", _filled(path)
    statuses = {who: (await gate.ask(who, method, path)).status_code for who in gate._keys}
    refused = {who: status for who, status in statuses.items() if status in {401, 403}}

    if route in OPEN:
        assert refused == {}
    elif route in ADMIN:
        assert refused == {"none": 401, "wrong": 401, "of another model": 403, "good": 403}
    elif route in FOR_ALL_MODELS:
        assert refused == {"none": 401, "wrong": 401, "of another model": 403}
    else:
        assert refused == {"none": 401, "wrong": 401}


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda value: value)
async def test_a_key_of_another_model_sees_none_that_is_served(gate: Gate, method: str, path: str) -> None:
    answer = await gate.ask("of another model", method, _filled(path))

    if f"{method} {path}" in OPEN | WITHOUT_MODELS:
        assert "{" in path or not any(f'"{name}' in answer.text for name in SERVED)
    else:
        assert answer.status_code in {403, 404, 422}


@pytest.mark.parametrize(("method", "path"), SHUT, ids=lambda value: value)
async def test_no_spelling_of_a_path_opens_it(gate: Gate, method: str, path: str) -> None:
    callers = ["none", "wrong"]
    if f"{method} {path}" in ADMIN:
        callers += ["of another model", "good"]

    answers = {(who, spelled): await gate.ask(who, method, spelled) for who in callers for spelled in _spelled(path)}

    assert {asked: answer.status_code for asked, answer in answers.items() if answer.status_code not in REFUSED} == {}


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_no_other_method_opens_a_path(gate: Gate, method: str) -> None:
    statuses = {(await gate.ask("none", method, _filled(path))).status_code for _, path in SHUT if path != "/"}

    assert statuses == {401}


async def test_without_any_keys_administration_is_shut_all_the_same() -> None:
    async with _serving() as http:
        for method, _, path in (route.partition(" ") for route in ADMIN):
            for spelled in _spelled(path):
                assert (await http.request(method, f"http://conch{spelled}")).status_code in {403, 404}, spelled


@pytest.mark.parametrize(("path", "status"), [("/api/admin/models", 401), ("/api/health/live", 200)])
async def test_below_the_path_of_another_server_the_same_is_open(tmp_path: Path, path: str, status: int) -> None:
    create_key(tmp_path / "keys.json", "root", admin=True)
    app = create_app(GatewaySettings(api_keys_file=tmp_path / "keys.json"), StandIn())
    transport = httpx.ASGITransport(app, root_path="/api")
    async with httpx.AsyncClient(transport=transport, base_url="http://conch") as http:
        assert (await http.get(path)).status_code == status


async def test_below_the_path_of_another_server_the_document_names_that() -> None:
    transport = httpx.ASGITransport(create_app(GatewaySettings(), StandIn()), root_path="/api")
    async with httpx.AsyncClient(transport=transport, base_url="http://conch") as http:
        assert (await http.get("/api/openapi.json")).json()["servers"] == [{"url": "/api"}]


@pytest.mark.parametrize(("path", "of"), [("/api/v2/nowhere", {"message"}), ("/api/nowhere", {"error"})])
async def test_below_the_path_of_another_server_errors_are_in_the_same_dialect(path: str, of: set[str]) -> None:
    transport = httpx.ASGITransport(create_app(GatewaySettings(), StandIn()), root_path="/api")
    async with httpx.AsyncClient(transport=transport, base_url="http://conch") as http:
        assert (await http.get(path)).json().keys() == of


@pytest.mark.parametrize("root", ["/api", "/api/"])
async def test_below_the_path_of_another_server_the_root_is_there_too(root: str) -> None:
    headers = {"authorization": "Bearer secret"}
    async with _serving(root, api_keys="alice:secret") as http:
        page, head = await http.get(f"{root}/"), await http.head(f"{root}/")
        embedded = await http.post(f"{root}/", json={"inputs": "a"}, headers=headers)
        listed = await http.get(f"{root}//v1//models/", headers=headers)

    assert (page.status_code, page.headers["content-type"].split(";")[0]) == (200, "text/html")
    assert [answer.status_code for answer in (head, embedded, listed)] == [200, 200, 200]


def _filled(path: str) -> str:
    for name, value in PARAMETERS.items():
        path = path.replace(name, value)
    return path


def _spelled(path: str) -> list[str]:
    filled = _filled(path)
    return [spelling.format(filled, ord(filled[1:2] or "."), filled[2:]) for spelling in SPELLINGS]
