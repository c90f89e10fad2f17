from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import StandIn


async def test_models_are_listed_in_openais_shape_with_the_facts_of_their_export(http: httpx.AsyncClient) -> None:
    answer = (await http.get("/v1/models")).json()

    assert answer["object"] == "list"
    assert [model["id"] for model in answer["data"]] == ["letters", "overlap"]
    model = answer["data"][0]
    assert isinstance(model.pop("created"), int)
    assert model == {
        "id": "letters",
        "object": "model",
        "owned_by": "conch",
        "name": "letters",
        "endpoints": ["embed"],
        "context_length": 16,
        "task": "embedding",
        "architecture": "bert",
        "precision": "fp32",
        "description": "a stand-in",
        "dimension": 8,
        "max_length": 16,
        "pooling": "mean",
        "normalized": True,
        "prompts": {"query": "q: ", "document": "d: "},
        "source": "test",
        "revision": "1",
        "weights_sha256": "1" * 64,
        "tokenizer_sha256": "0" * 64,
        "ready": True,
    }


async def test_lengths_that_vectors_may_be_cut_to_are_listed(http: httpx.AsyncClient, client: StandIn) -> None:
    client.served[0] = replace(client.served[0], matryoshka_dimensions=(8, 4))

    assert (await http.get("/v1/models/letters")).json()["matryoshka_dimensions"] == [8, 4]


@pytest.mark.parametrize("name", ["letters", "org/letters"], ids=["plain", "with a slash"])
async def test_a_model_is_described_by_its_id(http: httpx.AsyncClient, client: StandIn, name: str) -> None:
    client.rename("letters", name)

    response = await http.get(f"/v1/models/{name}")

    assert (response.status_code, response.json()["id"]) == (200, name)


async def test_an_unknown_model_is_not_found_and_the_message_lists_those_served(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/models/gpt-9")

    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "letters" in error["message"]


@pytest.mark.parametrize(
    ("query", "names"), [({}, ["letters", "overlap"]), ({"endpoint": "rerank"}, ["overlap"])], ids=["all", "rerankers"]
)
async def test_coheres_clients_read_models_of_an_endpoint(
    http: httpx.AsyncClient, query: dict[str, str], names: list[str]
) -> None:
    answer = (await http.get("/v1/models", params=query)).json()

    assert [model["name"] for model in answer["models"]] == names
    assert answer["models"][-1] == {"name": "overlap", "endpoints": ["rerank"], "context_length": 16}
