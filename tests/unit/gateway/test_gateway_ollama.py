from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import Serve, StandIn


async def test_texts_are_embedded(http: httpx.AsyncClient) -> None:
    answer = (await http.post("/api/embed", json={"model": "letters", "input": ["ab", "c"], "options": {}})).json()

    assert np.shape(answer.pop("embeddings")) == (2, 8)
    assert answer.pop("total_duration") > 0
    assert answer == {"model": "letters", "load_duration": 0, "prompt_eval_count": 7}


async def test_a_text_is_embedded_as_it_once_was(http: httpx.AsyncClient) -> None:
    answer = (await http.post("/api/embeddings", json={"model": "letters", "prompt": "ab"})).json()

    assert np.shape(answer["embedding"]) == (8,)


async def test_the_tag_of_the_latest_version_may_be_said(http: httpx.AsyncClient) -> None:
    response = await http.post("/api/embed", json={"model": "letters:latest", "input": "a"})

    assert (response.status_code, response.json()["model"]) == (200, "letters:latest")


@pytest.mark.parametrize(("truncate", "passed"), [(None, "end"), (True, "end"), (False, "none")], ids=str)
async def test_long_texts_are_cut_unless_that_is_forbidden(
    http: httpx.AsyncClient, client: StandIn, truncate: bool | None, passed: str
) -> None:
    await http.post("/api/embed", json={"model": "letters", "input": "a", "truncate": truncate})

    assert client.calls[0][1]["truncate"] == passed


async def test_embedding_models_are_listed(http: httpx.AsyncClient) -> None:
    (model,) = (await http.get("/api/tags")).json()["models"]

    assert (model["name"], model["model"]) == ("letters:latest", "letters:latest")
    assert (model["digest"], model["details"]["family"]) == ("1" * 64, "bert")


@pytest.mark.parametrize(
    ("name", "capabilities"), [("letters", ["embedding"]), ("letters:latest", ["embedding"]), ("overlap", [])]
)
async def test_a_model_is_described(http: httpx.AsyncClient, name: str, capabilities: list[str]) -> None:
    answer = (await http.post("/api/show", json={"model": name})).json()

    assert answer["capabilities"] == capabilities
    assert answer["model_info"]["bert.context_length"] == 16


async def test_its_older_name_for_the_field_is_understood(http: httpx.AsyncClient) -> None:
    answer = (await http.post("/api/show", json={"name": "letters:latest"})).json()

    assert answer["capabilities"] == ["embedding"]


@pytest.mark.parametrize("body", [{}, {"input": ""}, {"input": []}, {"input": None}], ids=str)
async def test_no_input_gets_no_vectors(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    response = await http.post("/api/embed", json={"model": "letters", **body})

    assert (response.status_code, response.json()["embeddings"]) == (200, [])


async def test_no_prompt_gets_an_empty_vector(http: httpx.AsyncClient) -> None:
    response = await http.post("/api/embeddings", json={"model": "letters", "prompt": ""})

    assert (response.status_code, response.json()) == (200, {"embedding": []})


async def test_a_list_may_be_longer_than_in_other_dialects(http_with: Serve) -> None:
    async with http_with(max_inputs=2) as http:
        response = await http.post("/api/embed", json={"model": "letters", "input": ["a", "b", "c"]})

    assert len(response.json()["embeddings"]) == 3


async def test_a_list_is_refused_that_is_longer_than_what_may_be_in_flight(http_with: Serve, client: StandIn) -> None:
    async with http_with(max_inputs=2, max_in_flight_texts=3) as http:
        response = await http.post("/api/embed", json={"model": "letters", "input": ["a", "b", "c", "d"]})

    assert (response.status_code, response.json()) == (
        400,
        {"error": "4 inputs are too many; send at most 3 in one request"},
    )
    assert client.calls == []


async def test_a_model_that_is_there_need_not_be_pulled(http: httpx.AsyncClient) -> None:
    response = await http.post("/api/pull", json={"model": "letters", "stream": True})

    assert (response.status_code, response.json()) == (200, {"status": "success"})


async def test_who_pulls_another_model_is_told_how_to_export_it(http: httpx.AsyncClient) -> None:
    response = await http.post("/api/pull", json={"model": "llama"})

    assert "conch export" in response.json()["error"]


async def test_the_version_is_told(http: httpx.AsyncClient) -> None:
    assert (await http.get("/api/version")).json()["version"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("/api/embed", {"input": "a"}, 422, id="no model"),
        pytest.param("/api/embed", {"model": "letters", "input": ["a", ""]}, 400, id="an empty text among others"),
        pytest.param("/api/embed", {"model": "llama", "input": ""}, 404, id="nothing for an unknown model"),
        pytest.param("/api/embed", {"model": "letters", "input": [1]}, 422, id="token ids"),
        pytest.param("/api/embed", {"model": "llama", "input": "a"}, 404, id="an unknown model"),
        pytest.param("/api/show", {}, 422, id="no name"),
        pytest.param("/api/pull", {"model": "llama"}, 404, id="an unknown model to pull"),
        pytest.param("/api/generate", {"model": "letters", "prompt": "a"}, 404, id="an unknown path"),
        pytest.param("/api/show", {"model": "llama"}, 404, id="an unknown model to describe"),
    ],
)
async def test_a_bad_request_gets_ollamas_error(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], status: int
) -> None:
    response = await http.post(path, json=body)

    assert (response.status_code, set(response.json())) == (status, {"error"})
    assert isinstance(response.json()["error"], str)
