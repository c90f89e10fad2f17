from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import StandIn

TEXTS = ["ab", "c"]
TEXT = {"type": "text", "text": "a"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}


async def embedded(http: httpx.AsyncClient, url: str = "/v2/embed", **body: Any) -> Any:
    response = await http.post(url, json={"texts": TEXTS, **body})
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_second_version_answers_by_type(http: httpx.AsyncClient) -> None:
    answer = await embedded(http, model="letters", input_type="search_document", embedding_types=["float", "int8"])

    assert {**answer, "embeddings": None, "id": None} == {
        "response_type": "embeddings_by_type",
        "id": None,
        "embeddings": None,
        "texts": TEXTS,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 7}},
    }
    assert {kind: np.shape(rows) for kind, rows in answer["embeddings"].items()} == {"float": (2, 8), "int8": (2, 8)}


async def test_without_types_it_answers_floats(http: httpx.AsyncClient) -> None:
    assert set((await embedded(http))["embeddings"]) == {"float"}


async def test_the_first_version_answers_bare_floats(http: httpx.AsyncClient) -> None:
    answer = await embedded(http, url="/v1/embed")

    assert answer["response_type"] == "embeddings_floats"
    assert np.shape(answer["embeddings"]) == (2, 8)
    assert answer["meta"]["api_version"] == {"version": "1"}


async def test_the_first_version_answers_by_type_when_asked(http: httpx.AsyncClient) -> None:
    answer = await embedded(http, url="/v1/embed", embedding_types=["binary"])

    assert answer["response_type"] == "embeddings_by_type"
    assert np.shape(answer["embeddings"]["binary"]) == (2, 1)


async def test_base64_holds_the_floats(http: httpx.AsyncClient) -> None:
    kinds = (await embedded(http, embedding_types=["float", "base64"]))["embeddings"]

    packed = [np.frombuffer(base64.b64decode(row), "<f4") for row in kinds["base64"]]
    assert np.array(packed) == pytest.approx(np.array(kinds["float"]))


@pytest.mark.parametrize(
    ("input_type", "prompt_name"),
    [("search_query", "query"), ("search_document", "document"), ("classification", None), ("clustering", None)],
)
async def test_the_input_type_picks_the_prompt(
    http: httpx.AsyncClient, client: StandIn, input_type: str, prompt_name: str | None
) -> None:
    await embedded(http, input_type=input_type)

    assert client.calls[0][1]["prompt_name"] == prompt_name


async def test_length_and_truncation_are_passed_on(http: httpx.AsyncClient, client: StandIn) -> None:
    answer = await embedded(http, output_dimension=4, truncate="START")

    assert np.shape(answer["embeddings"]["float"]) == (2, 4)
    assert client.calls[0][1]["truncate"] == "start"


async def test_inputs_are_texts_in_parts(http: httpx.AsyncClient, client: StandIn) -> None:
    parts = [{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]
    response = await http.post("/v2/embed", json={"inputs": [{"content": parts}, {"content": parts[:1]}]})

    assert response.json()["texts"] == ["ab\nc", "ab"]
    assert np.shape(response.json()["embeddings"]["float"]) == (2, 8)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        pytest.param({}, 422, "texts", id="no texts"),
        pytest.param({"texts": ["a"], "inputs": [{"content": [TEXT]}]}, 400, "inputs", id="texts and inputs"),
        pytest.param({"inputs": [TEXT]}, 422, "inputs", id="an input without content"),
        pytest.param({"inputs": [{"content": [{"type": "text"}]}]}, 422, "inputs", id="a part without text"),
        pytest.param({"inputs": [{"content": [TEXT, IMAGE]}]}, 400, "inputs", id="an image among texts"),
        pytest.param({"images": ["data:image/png;base64,"]}, 400, "images", id="images alone"),
        pytest.param({"texts": ["a"], "max_tokens": 3}, 400, "max_tokens", id="another limit than the model's"),
        pytest.param({"texts": [[1, 2]]}, 422, "texts", id="token ids"),
        pytest.param({"texts": [""]}, 400, "texts", id="an empty text"),
        pytest.param({"texts": ["a"], "input_type": "image"}, 400, "input_type", id="images"),
        pytest.param({"texts": ["a"], "embedding_types": ["int2"]}, 400, "embedding_types", id="an unknown type"),
        pytest.param({"texts": ["a"], "model": "embed-v9"}, 404, "embed-v9", id="an unknown model"),
    ],
)
async def test_a_bad_request_gets_coheres_error(
    http: httpx.AsyncClient, body: dict[str, Any], status: int, field: str
) -> None:
    response = await http.post("/v2/embed", json=body)

    assert (response.status_code, set(response.json())) == (status, {"message"})
    assert field in response.json()["message"]
