"""The gateway over a real Triton: what is good is answered, what is bad is refused, and neither disturbs the other."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from tests.serving import Serving
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from numpy.typing import NDArray

MODEL = "all-minilm-l6-v2"
EMBEDDINGS = "/v1/embeddings"
GOOD = {"model": MODEL, "input": "a cat sat on the mat", "encoding_format": "base64"}


@pytest.fixture
async def http(gateway_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway_url, timeout=60) as connection:
        yield connection


async def embed(http: httpx.AsyncClient, **body: Any) -> NDArray[np.float32]:
    response = await http.post(EMBEDDINGS, json={"model": MODEL, **body})
    assert response.status_code == 200, response.text
    rows = [item["embedding"] for item in response.json()["data"]]
    if body.get("encoding_format") == "base64":
        return np.array([np.frombuffer(base64.b64decode(row), "<f4") for row in rows])
    return np.array(rows, np.float32)


def bad(path: str = EMBEDDINGS, **body: Any) -> dict[str, Any]:
    return {"url": path, "json": {"model": MODEL, **body}}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(bad(input=[]), 400, id="empty list"),
        pytest.param(bad(input=""), 400, id="empty string"),
        pytest.param(bad(input="x" * 10_000_000), 413, id="a string of 10 MB"),
        pytest.param(bad(input=["a"] * 5_000), 400, id="5,000 texts"),
        pytest.param(bad(input=[10**6]), 400, id="token id beyond the vocabulary"),
        pytest.param(bad(input=[[101, 7592, 102], [101, 30_522, 102]]), 400, id="one row beyond the vocabulary"),
        pytest.param(bad(input=[-1]), 400, id="negative token id"),
        pytest.param(bad(input=[101] * 257), 400, id="more token ids than the model takes"),
        pytest.param(bad(input="long " * 300, truncate="none"), 400, id="too long where nothing may be cut"),
        pytest.param(bad(input="a", dimensions=-1), 400, id="negative dimensions"),
        pytest.param(bad(input="a", dimensions=385), 400, id="more dimensions than there are"),
        pytest.param(bad(input="a", dimensions=128), 400, id="shortening a model not trained for it"),
        pytest.param(bad(input="a", prompt_name="query"), 400, id="a prompt that the model lacks"),
        pytest.param(bad(input="a", model="gpt-9"), 404, id="unknown model"),
        pytest.param(bad(input="a", model=f"{MODEL}.encoder"), 404, id="a part of a model"),
        pytest.param(bad(input="a", model=f"{MODEL}-maxsim"), 400, id="a reranker"),
        pytest.param(bad(input=7), 422, id="a number"),
        pytest.param(bad(input=["a", None]), 422, id="null among texts"),
        pytest.param({"url": EMBEDDINGS, "content": b'{"input": "\\ud800"}'}, 400, id="lone surrogate"),
        pytest.param({"url": EMBEDDINGS, "content": b'{"input": "a"'}, 400, id="not JSON"),
        pytest.param(
            bad("/v1/rerank", model=f"{MODEL}-int8", query="a", documents=["a"]), 400, id="a model without a reranker"
        ),
        pytest.param(bad("/v1/rerank", query="a"), 422, id="reranking nothing"),
    ],
)
async def test_a_bad_request_is_refused_and_a_good_one_beside_it_is_unharmed(
    http: httpx.AsyncClient, request_: dict[str, Any], status: int
) -> None:
    alone = await http.post(EMBEDDINGS, json=GOOD)

    refused, beside = await asyncio.gather(http.post(**request_), http.post(EMBEDDINGS, json=GOOD))

    assert refused.status_code == status, refused.text
    body = refused.json()
    assert body.get("error", body)["message"]
    np.testing.assert_allclose(vector_of(beside), vector_of(alone), atol=1e-5)


def vector_of(response: httpx.Response) -> NDArray[np.float32]:
    assert response.status_code == 200, response.text
    return np.frombuffer(base64.b64decode(response.json()["data"][0]["embedding"]), "<f4")


@pytest.mark.parametrize("text", ["\0", "a\0b", " ", "\u202e\u200b", "👩‍👩‍👧‍👦" * 50, "word " * 5_000], ids=ascii)
async def test_odd_texts_have_unit_vectors(http: httpx.AsyncClient, text: str) -> None:
    vectors = await embed(http, input=text)

    assert vectors.shape == (1, 384)
    assert np.linalg.norm(vectors) == pytest.approx(1, abs=1e-5)


async def test_base64_and_numbers_agree(http: httpx.AsyncClient) -> None:
    texts = ["one", "two words", "a third text of another length"]

    packed = await embed(http, input=texts, encoding_format="base64")

    np.testing.assert_allclose(packed, await embed(http, input=texts), atol=1e-6)


async def test_token_ids_have_the_vector_of_their_text(http: httpx.AsyncClient) -> None:
    ids = [101, 7592, 2088, 102]  # hello world

    np.testing.assert_allclose(await embed(http, input=ids), await embed(http, input="hello world"), atol=1e-5)


async def test_usage_counts_the_tokens_that_were_computed(http: httpx.AsyncClient) -> None:
    response = await http.post(EMBEDDINGS, json={"input": ["hello world", "word " * 5_000]})

    assert response.json()["usage"] == {"prompt_tokens": 4 + 256, "total_tokens": 260}


async def test_as_many_texts_as_allowed_come_back_in_order(http: httpx.AsyncClient) -> None:
    texts = [f"{number}" for number in range(100)]

    vectors = await embed(http, input=texts, encoding_format="base64")

    singly = await asyncio.gather(*(embed(http, input=text, encoding_format="base64") for text in texts[:10]))
    np.testing.assert_allclose(vectors[:10], np.concatenate(singly), atol=1e-5)


async def test_documents_are_ranked_for_the_query(http: httpx.AsyncClient) -> None:
    documents = ["Paris is the capital of France", "a cat sat on the mat", "stocks fell on Monday"]

    response = await http.post(
        "/v2/rerank", json={"query": "where did the cat sit?", "documents": documents, "top_n": 2}
    )

    answer = response.json()
    assert answer["model"] == f"{MODEL}-maxsim"
    assert answer["results"][0]["index"] == 1
    assert len(answer["results"]) == 2
    assert answer["usage"]["total_tokens"] > 20


async def test_models_and_health_tell_what_is_served(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()["data"]
    ready = await http.get("/health/ready")

    assert {model["id"] for model in listed} >= {MODEL, f"{MODEL}-maxsim"}
    assert (ready.status_code, ready.json()["reasons"]) == (200, [])


async def test_vectors_name_their_space_and_another_one_is_a_conflict(http: httpx.AsyncClient) -> None:
    space = (await http.get(f"/v1/models/{MODEL}")).json()["space_id"]
    answers = [await http.post(EMBEDDINGS, json={**GOOD, "expect_space": each}) for each in (space, space[::-1])]
    assert [answer.status_code for answer in answers] == [200, 409]
    assert answers[0].headers["x-conch-space-id"] == answers[0].json()["space_id"] == space


async def test_without_triton_requests_get_503_and_the_gateway_lives(tmp_path: Path) -> None:
    serving = Serving(None, tmp_path, CONCH_TRITON_URL="127.0.0.1:1").launch()
    async with httpx.AsyncClient(base_url=serving.url, timeout=60) as http:
        await asyncio.to_thread(until, lambda: serving.http.get("/health/live").is_success)
        refused, ready, live = [
            await http.post(EMBEDDINGS, json=GOOD),
            await http.get("/health/ready"),
            await http.get("/health/live"),
        ]

    assert await asyncio.to_thread(serving.stop) == 0
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert (ready.status_code, live.status_code) == (503, 200)
    assert ready.json()["reasons"]


async def test_a_gateway_whose_requests_wait_for_triton_starts_without_one(tmp_path: Path) -> None:
    settings = {"CONCH_TRITON_URL": "127.0.0.1:1", "CONCH_TRITON_WAIT_S": "1"}
    serving = await asyncio.to_thread(Serving(None, tmp_path, **settings).start)
    async with httpx.AsyncClient(base_url=serving.url, timeout=60) as http:
        refused = await http.post(EMBEDDINGS, json=GOOD)
    assert await asyncio.to_thread(serving.stop) == 0

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")


async def test_a_deadline_gives_504(triton: Serving, tmp_path: Path) -> None:
    settings = {"CONCH_TRITON_URL": triton.grpc_url, "CONCH_TIMEOUT_S": "2"}
    texts = [f"{number} " + "word " * 300 for number in range(2000)]  # several times as much as any machine computes
    serving = await asyncio.to_thread(Serving(None, tmp_path, **settings).start)
    async with httpx.AsyncClient(base_url=serving.url, timeout=60) as http:
        response = await http.post(EMBEDDINGS, json={"model": MODEL, "input": texts})
    assert await asyncio.to_thread(serving.stop) == 0

    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
