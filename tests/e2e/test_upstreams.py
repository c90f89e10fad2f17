"""A gateway in front of another: its models are served as those of a Triton of one's own are."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from conch_client import AsyncClient

from tests import head_checkpoints, kind_checkpoints
from tests.serving import Serving
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

KEY = "key-of-the-gateway-behind"
TEXTS = ["a cat sat on the mat", "größer, 日本語 and 🐚!", "x", "to be or not to be? " * 40, "a cat"]
CALLS = "max_rows = 2\ncalls = 2"  # so that five texts take three calls


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a Triton listens that has a model with dense, token and sparse vectors, and a cross-encoder."""
    folder = tmp_path_factory.mktemp("upstreams")
    made = {
        "m3": head_checkpoints.bge_m3(folder / "m3"),
        "bert-pairs": head_checkpoints.make(folder / "bert-pairs", "bert", "ForSequenceClassification", num_labels=1),
    }
    kind_checkpoints.export_all(made, folder / "models")  # as other tests have them, which share the exports
    with Serving(folder / "models", folder) as serving:
        yield serving.grpc_url


@pytest.fixture(scope="module")
def behind(triton: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The gateway that has the models, and takes a key."""
    settings = {"CONCH_TRITON_URL": triton, "CONCH_API_KEYS": f"front:{KEY}"}
    with Serving(None, tmp_path_factory.mktemp("behind"), **settings) as serving:
        yield serving


@pytest.fixture(scope="module")
def second(triton: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Another gateway that has the same models."""
    settings = {"CONCH_TRITON_URL": triton, "CONCH_API_KEYS": f"front:{KEY}"}
    with Serving(None, tmp_path_factory.mktemp("second"), **settings) as serving:
        yield serving


@pytest.fixture
async def own(behind: Serving) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway behind."""
    async with httpx.AsyncClient(base_url=behind.url, headers={"api-key": KEY}, timeout=60) as http:
        yield http


@pytest.fixture(scope="module")
def in_front(
    behind: Serving, second: Serving, triton: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    """A gateway in front, whose `far-many` and `far-pairs` are of the one behind; `both` of two."""
    folder = tmp_path_factory.mktemp("front")
    at = f'url = "{behind.url}/v1"\napi_key_env = "KEY_OF_BEHIND"\n{CALLS}'
    (folder / "models.toml").write_text(
        f'[far-many]\nmodel = "m3"\nvector_types = ["dense", "late", "sparse"]\n{at}\n'
        f'[far-pairs]\nmodel = "bert-pairs"\ntask = "rerank"\n{at}\n'
        f'[far-maxsim]\nmodel = "m3"\ntask = "rerank"\n{at}\n'
        f'[both]\nmodel = "m3"\nurl = ["{behind.url}/v1", "{second.url}/v1"]\napi_key_env = "KEY_OF_BEHIND"\n'
    )
    settings = {
        "CONCH_TRITON_URL": triton,
        "CONCH_MODELS_FILE": str(folder / "models.toml"),
        "CONCH_CACHE_MB": "1",
        "KEY_OF_BEHIND": KEY,
    }
    with Serving(None, folder, **settings) as serving:
        yield serving


@pytest.fixture
async def front(in_front: Serving) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway in front."""
    async with httpx.AsyncClient(base_url=in_front.url, timeout=60) as http:
        yield http


async def answered(http: httpx.AsyncClient, path: str, **body: Any) -> Any:
    response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def texts_computed(http: httpx.AsyncClient) -> float:
    """How many texts a gateway has embedded with `m3`."""
    found = re.search(
        r'^conch_gateway_texts_total\{model="m3"\} (\S+)', (await http.get("/metrics")).text, re.MULTILINE
    )
    return float(found[1]) if found else 0.0


async def test_dense_vectors_are_the_same_and_asked_for_once(front: httpx.AsyncClient, own: httpx.AsyncClient) -> None:
    before, texts = await texts_computed(own), [f"{text}, for the first time" for text in TEXTS]
    expected = await answered(own, "/v1/embeddings", model="m3", input=texts)
    first = await answered(front, "/v1/embeddings", model="far-many", input=texts)
    again = await answered(front, "/v1/embeddings", model="far-many", input=texts[::-1])
    direct = [item["embedding"] for item in expected["data"]]
    np.testing.assert_allclose([item["embedding"] for item in first["data"]], direct, atol=1e-5)
    np.testing.assert_allclose([item["embedding"] for item in again["data"]], direct[::-1], atol=1e-5)
    assert first["usage"] == expected["usage"]
    assert again["usage"]["total_tokens"] == 0
    assert await texts_computed(own) - before == 2 * len(texts)


async def test_token_vectors_are_the_same(front: httpx.AsyncClient, own: httpx.AsyncClient) -> None:
    asked: dict[str, Any] = {"input": TEXTS, "vector_type": "late", "encoding_format": "base64"}
    expected = await answered(own, "/v1/embeddings", model="m3", **asked)
    given = await answered(front, "/v1/embeddings", model="far-many", **asked)
    assert given["usage"] == expected["usage"]
    for one, other in zip(given["data"], expected["data"], strict=True):
        assert one["shape"] == other["shape"]
        left, right = (np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in (one, other))
        np.testing.assert_allclose(left, right, atol=1e-5)


async def test_sparse_vectors_are_the_same(front: httpx.AsyncClient, own: httpx.AsyncClient) -> None:
    expected = await answered(own, "/embed_sparse", model="m3", inputs=TEXTS)
    given = await answered(front, "/embed_sparse", model="far-many", inputs=TEXTS)
    for one, other in zip(given, expected, strict=True):
        assert [term["index"] for term in one] == [term["index"] for term in other]
        np.testing.assert_allclose([term["value"] for term in one], [term["value"] for term in other], atol=1e-5)


@pytest.mark.parametrize(("far", "near"), [("far-pairs", "bert-pairs"), ("far-maxsim", "m3")])
@pytest.mark.parametrize("raw", [False, True], ids=["scores", "raw scores"])
async def test_rankings_are_the_same(
    front: httpx.AsyncClient, own: httpx.AsyncClient, far: str, near: str, raw: bool
) -> None:
    body: dict[str, Any] = {"query": "where did the cat sit?", "documents": TEXTS, "top_n": 4, "raw_scores": raw}
    expected = await answered(own, "/v2/rerank", model=near, **body)
    given = await answered(front, "/v2/rerank", model=far, **body)
    assert [item["index"] for item in given["results"]] == [item["index"] for item in expected["results"]]
    np.testing.assert_allclose(
        [item["relevance_score"] for item in given["results"]],
        [item["relevance_score"] for item in expected["results"]],
        atol=1e-5,
    )


async def test_pairs_get_the_same_scores(front: httpx.AsyncClient, own: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {"text_1": ["a", "b", "a", "c", "b"], "text_2": TEXTS}
    expected = await answered(own, "/score", model="bert-pairs", **body)
    given = await answered(front, "/score", model="far-pairs", **body)
    np.testing.assert_allclose(
        [item["score"] for item in given["data"]], [item["score"] for item in expected["data"]], atol=1e-5
    )


async def test_what_the_gateway_behind_refuses_is_refused_in_front(front: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {"model": "far-many", "input": "a " * 9000, "truncate": "none"}
    for vector_type in ("dense", "late", "sparse"):
        refused = await front.post("/v1/embeddings", json={**body, "vector_type": vector_type})
        assert refused.status_code == 400
        assert "token" in refused.json()["error"]["message"]


async def test_a_query_is_answered_beside_a_long_list(front: httpx.AsyncClient) -> None:
    async def bulk() -> None:
        await answered(front, "/v1/embeddings", model="far-many", input=[f"text {number}" for number in range(200)])

    async def under_way() -> bool:
        return "conch_gateway_in_flight_texts 200.0" in (await front.get("/metrics")).text

    working = asyncio.create_task(bulk())
    await eventually(under_way)
    await answered(front, "/v1/embeddings", model="far-many", input="a query")
    assert not working.done()
    await working


async def test_two_behind_share_the_work_and_one_that_dies_fails_no_request(
    front: httpx.AsyncClient, own: httpx.AsyncClient, second: Serving
) -> None:
    texts = [f"text {number}" for number in range(40)]
    expected = await answered(own, "/v1/embeddings", model="m3", input=texts)

    async def ask(place: int) -> None:
        given = await answered(front, "/v1/embeddings", model="both", input=texts[place])
        np.testing.assert_allclose(given["data"][0]["embedding"], expected["data"][place]["embedding"], atol=1e-5)

    await asyncio.gather(*map(ask, range(20)))
    page = (await front.get("/metrics")).text
    assert len(re.findall(r'replica_ended_total\{backend="both",outcome="answered"', page)) == 2
    asked = asyncio.gather(*map(ask, range(20, 40)))
    await asyncio.to_thread(second.kill)
    await asked
    await asyncio.to_thread(second.start)


async def test_without_the_gateway_behind_its_models_fail_and_others_serve(
    front: httpx.AsyncClient, behind: Serving
) -> None:
    await asyncio.to_thread(behind.stop)
    failed = await front.post("/v1/embeddings", json={"model": "far-many", "input": "a"})
    assert failed.status_code == 502
    assert "cannot be reached" in failed.json()["error"]["message"]
    assert (await front.get("/health/ready")).status_code == 200
    await answered(front, "/v1/embeddings", model="m3", input="a")
    await asyncio.to_thread(behind.start)

    async def back() -> bool:
        return (await front.post("/v1/embeddings", json={"model": "far-many", "input": "a"})).status_code == 200

    await eventually(back)


async def test_its_triton_and_the_gateways_agree(front: httpx.AsyncClient, triton: str) -> None:
    async with AsyncClient(triton) as client:
        expected = await client.embed(TEXTS, model="m3")
    given = await answered(front, "/v1/embeddings", model="far-many", input=TEXTS)
    np.testing.assert_allclose([item["embedding"] for item in given["data"]], expected, atol=1e-5)
