"""A dialect is one module and its name: what it takes to answer in another provider's words."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
from conch_gateway import GatewaySettings, api, create_app
from conch_gateway import app as application
from conch_gateway.api.fields.body import Example, RequestBody
from conch_gateway.api.fields.texts import StringsField  # noqa: TC002 - pydantic reads annotations at run time
from conch_gateway.api.route import Route, Router
from conch_gateway.jobs import EmbeddingJob
from conch_gateway.telemetry.request import context_of
from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest
    from conch_gateway.api.services import Services
    from conch_gateway.errors import Problem
    from starlette.requests import Request

    from tests.unit.gateway.conftest import StandIn


def test_every_module_with_routes_is_named() -> None:
    folder = Path(api.__file__).parent
    with_routes = [path for path in folder.rglob("*.py") if "\ndef router(" in path.read_text(encoding="utf-8")]
    found = {".".join(path.relative_to(folder).with_suffix("").parts) for path in with_routes}

    assert found == set(api.MODULES)


class FlatError(BaseModel):
    """An error of the new dialect."""

    fault: str


class FlatRoute(Route):
    error_model = FlatError
    prefix = "/flat/"

    @classmethod
    def error_body(cls, problem: Problem) -> Mapping[str, Any]:
        return {"fault": problem.message}


class FlatRequest(RequestBody):
    """A request of the new dialect."""

    example: ClassVar[Example] = {"words": ["a"]}

    words: StringsField = Field(description="Texts.")


def router(services: Services) -> Router:
    routes = Router(FlatRoute, tag="flat")

    @routes.on_post("/flat/embed", FlatRequest, list[list[float]], "Embed texts")
    async def embed(body: FlatRequest, request: Request) -> Any:
        return list((await services.inference.embed(EmbeddingJob(body.words), context_of(request))).given)

    return routes


async def test_a_new_module_answers_and_is_described(client: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("conch_gateway.api.flat")
    module.router = router  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sys.modules[application.__module__], "MODULES", (*api.MODULES, "flat"))
    app = create_app(GatewaySettings(), client)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        answered = await http.post("/flat/embed", json={"words": ["ab", "c"]})
        expected = await http.post("/embed", json={"inputs": ["ab", "c"]})
        wrong = await http.post("/flat/embed", json={"words": 7})
        nowhere = await http.post("/flat/nowhere")

    assert (answered.status_code, answered.json()) == (200, expected.json())
    assert (wrong.status_code, wrong.json()["fault"].partition(":")[0]) == (422, "words")
    assert (nowhere.status_code, set(nowhere.json())) == (404, {"fault"})
    described = app.openapi()["paths"]["/flat/embed"]["post"]
    body = described["requestBody"]["content"]["application/json"]
    assert (body["example"], set(body["schema"]["properties"])) == (FlatRequest.example, {"words"})
    assert described["responses"]["4XX"]["content"]["application/json"]["schema"]["$ref"].endswith("/FlatError")
