"""An alias of two models: texts that a request calls queries are answered by one, all others by the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from conch_client import AsyncClient
from conch_client.testing import FakeModel, FakeServer
from conch_gateway import GatewaySettings, create_app
from conch_gateway.auth.keys import create_key
from pydantic import SecretStr
from tritonclient.grpc import service_pb2

from tests.unit.gateway.conftest import model_info

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.gateway.conftest import Serve, StandIn

URL, SPACE = "/v1/embeddings", "x-conch-space-id"
INSTRUCTED = "Instruct: find it\nQuery: "


@pytest.fixture
def models_file(tmp_path: Path, client: StandIn) -> Path:
    """The alias `pair` of `letters` and, for queries, `small`."""
    client.served = [
        model_info("letters", "embedding", prompts={"query": "q: ", "document": "d: "}, checkpoint_sha256="2" * 64),
        model_info("small", "embedding", prompts={"query": INSTRUCTED, "document": ""}, checkpoint_sha256="3" * 64),
        model_info("short", "embedding", dimension=4),
    ]
    path = tmp_path / "models.toml"
    path.write_text('pair = {model = "letters", queries = "small"}\nunfit = {model = "letters", queries = "short"}')
    return path


@pytest.mark.parametrize(
    ("path", "body", "answered"),
    [
        pytest.param(URL, {"input": "a"}, "letters", id="nothing said"),
        pytest.param(URL, {"input": "a", "input_type": "document"}, "letters", id="a document"),
        pytest.param(URL, {"input": "a", "input_type": "clustering"}, "letters", id="another purpose"),
        pytest.param(URL, {"input": "a", "prompt_name": "document"}, "letters", id="a document's prompt"),
        pytest.param(URL, {"input": [[101, 97]]}, "letters", id="ids"),
        pytest.param(URL, {"input": "a", "input_type": "query"}, "small", id="a query"),
        pytest.param(URL, {"input": "a", "input_type": "code.query"}, "small", id="a query for code"),
        pytest.param(URL, {"input": "a", "task": "retrieval.query"}, "small", id="a query in Jina's words"),
        pytest.param(URL, {"input": "a", "prompt_name": "query"}, "small", id="a query's prompt"),
        pytest.param(URL, {"input": "a", "prompt_name": "query", "input_type": "document"}, "small", id="both"),
        pytest.param(URL, {"input": "a", "instruction": "look"}, "small", id="an instruction"),
        pytest.param(URL, {"input": [[101, 97]], "input_type": "query"}, "small", id="ids of a query"),
        pytest.param("/v2/embed", {"texts": ["a"], "input_type": "search_query"}, "small", id="Cohere's query"),
        pytest.param("/embed", {"inputs": "a", "prompt_name": "query"}, "small", id="TEI's query"),
    ],
)
async def test_what_a_text_is_for_chooses_the_model(
    http_with: Serve, models_file: Path, client: StandIn, path: str, body: dict[str, Any], answered: str
) -> None:
    async with http_with(models_file=models_file) as http:
        answer = await http.post(path, json={"model": "pair", **body})
    assert answer.status_code == 200, answer.text
    assert {options["model"] for name, options in client.calls if name == "embed"} == {answered}


async def test_a_query_gets_the_prompt_of_its_own_model(http_with: Serve, models_file: Path, client: StandIn) -> None:
    async with http_with(models_file=models_file) as http:
        answer = await http.post(URL, json={"model": "pair", "input": "a", "instruction": "look"})
    assert answer.json()["model"] == "small"
    told = next(options for name, options in client.calls if name == "tokenize")
    assert (told["model"], told["prompt"]) == ("small", "Instruct: look\nQuery: ")


async def test_both_sides_are_in_the_space_of_documents(http_with: Serve, models_file: Path) -> None:
    async with http_with(models_file=models_file) as http:
        spaces = {model["id"]: model.get("space_id") for model in (await http.get("/v1/models")).json()["data"]}
        assert spaces["pair"] == spaces["letters"] != spaces["small"]
        for kind in ("query", "document"):
            body = {"model": "pair", "input": "a", "input_type": kind}
            answer = await http.post(URL, json=body, headers={"x-conch-expect-space": spaces["pair"]})
            assert (answer.status_code, answer.headers[SPACE]) == (200, spaces["pair"])
        direct = await http.post(URL, json={"model": "small", "input": "a", "input_type": "query"})
        assert direct.headers[SPACE] == spaces["small"]


async def test_vectors_of_two_lengths_are_not_mixed(http_with: Serve, models_file: Path, client: StandIn) -> None:
    async with http_with(models_file=models_file) as http:
        refused = await http.post(URL, json={"model": "unfit", "input": "a", "input_type": "query"})
    assert refused.status_code == 400
    assert "vectors of 4 numbers for queries and of 8 for documents" in refused.json()["error"]["message"]
    assert not client.embedded


@pytest.mark.parametrize(("fields", "answered"), [({}, "letters"), ({"prompt_name": "query"}, "small")])
async def test_queries_are_tokenised_as_their_own_model_reads_them(
    http_with: Serve, models_file: Path, client: StandIn, fields: dict[str, Any], answered: str
) -> None:
    async with http_with(models_file=models_file) as http:
        answer = await http.post("/tokenize", json={"model": "pair", "inputs": "a", **fields})
    assert answer.status_code == 200, answer.text
    assert [options["model"] for name, options in client.calls if name == "tokens"] == [answered]


class Unloaded(FakeServer):
    """A server that loads its models when it is told to."""

    def RepositoryModelLoad(self, request: Any, _: Any) -> Any:  # noqa: N802
        self.models[request.model_name.partition(".")[0]].ready = True
        return service_pb2.RepositoryModelLoadResponse()


async def test_a_query_is_answered_although_the_model_of_documents_was_not_loaded_yet(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text('pair = {model = "large", queries = "small"}\nlarge = {load = "lazy"}\nsmall = {load = "lazy"}')
    with Unloaded({name: FakeModel(ready=False) for name in ("large", "small")}) as triton:
        app = create_app(GatewaySettings(models_file=path, triton_admin_key=SecretStr("key")), AsyncClient(triton.url))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http,
        ):
            answer = await http.post(URL, json={"model": "pair", "input": "a", "input_type": "query"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "small"


@pytest.mark.parametrize(
    ("opened", "statuses"),
    [
        pytest.param(["pair"], {"query": 200, "document": 200}, id="the alias"),
        pytest.param(["letters"], {"query": 404, "document": 200}, id="the model of documents"),
        pytest.param(["small"], {"query": 200, "document": 404}, id="the model of queries"),
        pytest.param(["letters", "small"], {"query": 200, "document": 200}, id="both models"),
    ],
)
async def test_a_key_opens_the_sides_that_it_is_for(
    http_with: Serve, models_file: Path, tmp_path: Path, opened: list[str], statuses: dict[str, int]
) -> None:
    keys_file = tmp_path / "keys.json"
    secret = create_key(keys_file, "alice", models=opened)
    async with http_with(models_file=models_file, api_keys_file=keys_file) as http:
        http.headers["authorization"] = f"Bearer {secret}"
        answers = {
            kind: await http.post(URL, json={"model": "pair", "input": "a", "input_type": kind}) for kind in statuses
        }
    assert {kind: answer.status_code for kind, answer in answers.items()} == statuses
    if opened == ["pair"]:
        assert {answer.json()["model"] for answer in answers.values()} == {"pair"}
