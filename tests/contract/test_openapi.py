"""The committed description of the API is the one that the gateway gives, and what it says is so."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from conch_client import AsyncClient
from conch_client.testing import FakeModel, FakeServer
from conch_gateway import GatewaySettings, create_app
from jsonschema import Draft202012Validator

from tests.declared import PROJECT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DOCS = Path(__file__).parents[2] / "docs"
NAME = "all-minilm-l6-v2"


DOCUMENT = json.loads((DOCS / "openapi.json").read_text(encoding="utf-8"))  # to make it takes a second
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
# Their examples name files and batches that are not there; tests/unit/gateway/batches checks their answers.
STORED = ("/v1/files", "/v1/batches")
ANSWERED = [operation for operation in OPERATIONS if not operation.split()[1].startswith(STORED)]
WITH_BODIES = [operation for operation in ANSWERED if operation.startswith("POST")]


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A gateway over a server with the default models, of which the examples speak."""
    derived = {"base": NAME}
    models = {
        NAME: FakeModel(),
        f"{NAME}-maxsim": FakeModel(task="late-interaction", parameters=derived),
        f"{NAME}-tokens": FakeModel(task="multi-vector", parameters=derived),
        f"{NAME}-sparse": FakeModel(task="sparse", parameters=derived),
    }
    with FakeServer(models) as server:
        async with AsyncClient(server.url) as client:
            app = create_app(GatewaySettings(), client)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as connection:
                yield connection


async def ask(http: httpx.AsyncClient, operation: str, body: Any = None) -> httpx.Response:
    method, path = operation.split()
    for parameter in OPERATIONS[operation].get("parameters", []):
        path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
    return await http.request(method, path, json=body)


def content(described: dict[str, Any]) -> dict[str, Any]:
    described = described.get("content", {}).get("application/json", {})
    return {**described, "schema": {**described.get("schema", {}), "components": DOCUMENT["components"]}}


def test_the_committed_document_is_up_to_date() -> None:
    given = create_app(GatewaySettings.model_construct(), AsyncClient()).openapi()
    described = {**given, "info": {**given["info"], "version": PROJECT["version"]}}

    assert described == DOCUMENT, "run make docs and commit docs/openapi.json"


def generated() -> Any:
    specification = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_every_generated_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert generated().main(["--check"]) == 0, capsys.readouterr().out


def test_its_schemas_are_schemas() -> None:
    check = Draft202012Validator.check_schema
    check({"$defs": DOCUMENT["components"]["schemas"]})
    for operation in OPERATIONS.values():
        for described in (operation.get("requestBody", {}), *operation["responses"].values()):
            check(described.get("content", {}).get("application/json", {}).get("schema", {}))


@pytest.mark.parametrize("operation", WITH_BODIES)
def test_its_example_is_what_its_schema_takes(operation: str) -> None:
    body = content(OPERATIONS[operation]["requestBody"])

    assert OPERATIONS[operation]["requestBody"]["required"] is True
    Draft202012Validator(body["schema"]).validate(body["example"])


@pytest.mark.parametrize("operation", ANSWERED)
async def test_its_example_is_answered_as_described(http: httpx.AsyncClient, operation: str) -> None:
    described = OPERATIONS[operation]
    body = content(described["requestBody"])["example"] if "requestBody" in described else None

    response = await ask(http, operation, body)

    assert response.status_code == 200, response.text
    if "application/json" in response.headers.get("content-type", ""):
        Draft202012Validator(content(described["responses"]["200"])["schema"]).validate(response.json())


@pytest.mark.parametrize("operation", WITH_BODIES)
@pytest.mark.parametrize("body", [{}, {"model": 7}, [], None], ids=str)
async def test_a_bad_body_is_answered_as_described(http: httpx.AsyncClient, operation: str, body: Any) -> None:
    responses = OPERATIONS[operation]["responses"]

    response = await ask(http, operation, body)

    assert {"4XX", "5XX"} <= set(responses)
    assert response.status_code in {400, 422}
    Draft202012Validator(content(responses["4XX"])["schema"]).validate(response.json())


@pytest.mark.parametrize("operation", WITH_BODIES)
async def test_null_is_as_if_the_field_had_been_left_out(http: httpx.AsyncClient, operation: str) -> None:
    described = content(OPERATIONS[operation]["requestBody"])
    example, schema = described["example"], described["schema"]
    nulls = dict.fromkeys(schema["properties"].keys() - schema.get("required", []))

    Draft202012Validator(schema).validate({**nulls, **example})
    expected = await ask(http, operation, example)
    answered = await ask(http, operation, {**nulls, **example})

    assert answered.status_code == expected.status_code == 200
    assert lasting(answered.json()) == lasting(expected.json())


def lasting(answer: Any) -> Any:
    """An answer without what differs every time."""
    if not isinstance(answer, dict):
        return answer
    return {name: value for name, value in answer.items() if name not in {"id", "created", "total_duration"}}
