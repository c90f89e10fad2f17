from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import StandIn


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

    assert (model["name"], model["digest"], model["details"]["family"]) == ("letters", "1" * 64, "bert")


@pytest.mark.parametrize(
    ("name", "capabilities"), [("letters", ["embedding"]), ("letters:latest", ["embedding"]), ("overlap", [])]
)
async def test_a_model_is_described(http: httpx.AsyncClient, name: str, capabilities: list[str]) -> None:
    answer = (await http.post("/api/show", json={"model": name})).json()

    assert answer["capabilities"] == capabilities
    assert answer["model_info"]["bert.context_length"] == 16


async def test_the_version_is_told(http: httpx.AsyncClient) -> None:
    assert (await http.get("/api/version")).json()["version"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("/api/embed", {"input": "a"}, 422, id="no model"),
        pytest.param("/api/embed", {"model": "letters", "input": ""}, 400, id="an empty text"),
        pytest.param("/api/embed", {"model": "letters", "input": [1]}, 422, id="token ids"),
        pytest.param("/api/embed", {"model": "llama", "input": "a"}, 404, id="an unknown model"),
        pytest.param("/api/embeddings", {"model": "letters", "prompt": ""}, 400, id="an empty prompt"),
        pytest.param("/api/show", {"model": "llama"}, 404, id="an unknown model to describe"),
    ],
)
async def test_a_bad_request_gets_ollamas_error(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], status: int
) -> None:
    response = await http.post(path, json=body)

    assert (response.status_code, set(response.json())) == (status, {"error"})
    assert isinstance(response.json()["error"], str)
