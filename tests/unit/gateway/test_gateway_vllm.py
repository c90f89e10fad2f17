from __future__ import annotations

import base64
import tracemalloc
from typing import TYPE_CHECKING, Any

import conch_client as cc
import numpy as np
import pytest
from conch_gateway.api.fields.encodings import floats

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from tests.unit.gateway.conftest import Serve, StandIn

MIB = 2**20


async def answer(http: httpx.AsyncClient, path: str, **body: Any) -> Any:
    response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
async def test_a_text_is_scored_with_each_of_several(http: httpx.AsyncClient, path: str) -> None:
    told = await answer(http, path, text_1="abcd", text_2=["xyz", "abc"], model="overlap")

    assert isinstance(told.pop("created"), int)
    assert told.pop("id")
    assert told == {
        "object": "list",
        "model": "overlap",
        "data": [
            {"index": 0, "object": "score", "score": 0.0},
            {"index": 1, "object": "score", "score": 0.75},
        ],
        "usage": {"prompt_tokens": 10, "total_tokens": 10},
    }


async def test_as_many_with_as_many_are_scored_in_pairs(http: httpx.AsyncClient, client: StandIn) -> None:
    told = await answer(http, "/score", text_1=["ab", "xy", "ab"], text_2=["a", "xy", "b"])

    assert [item["score"] for item in told["data"]] == [0.5, 1.0, 0.5]
    assert len(client.calls) == 2  # pairs with the same first text are one ranking


async def test_its_newer_names_are_understood(http: httpx.AsyncClient) -> None:
    told = await answer(http, "/score", queries="ab", documents=["a"])

    assert [item["score"] for item in told["data"]] == [0.5]


async def test_raw_scores_are_asked_of_the_model(http: httpx.AsyncClient, client: StandIn) -> None:
    await answer(http, "/score", text_1="a", text_2="b", use_activation=False)

    assert client.calls[0][1]["raw_scores"] is True


async def test_many_different_queries_do_not_fill_the_gateway(http_with: Serve) -> None:
    async with http_with(max_in_flight_requests=4) as http:
        told = await answer(http, "/score", text_1=[f"{n}" for n in range(40)], text_2=[f"{n}" for n in range(40)])

    assert [item["score"] for item in told["data"]] == [1.0] * 40


async def test_a_long_query_is_in_memory_once_however_many_texts_it_is_scored_with(
    http: httpx.AsyncClient, client: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rank(_: str, documents: Sequence[str], **__: object) -> cc.Ranking:
        return cc.Ranking([cc.Ranked(index, 0.5) for index in range(len(documents))], tokens=1)

    monkeypatch.setattr(client, "rerank", rank)
    query = "a" * MIB
    tracemalloc.start()
    try:
        told = await answer(http, "/score", text_1=query, text_2=["b"] * 100)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(told["data"]) == 100
    assert most < 20 * MIB


async def test_a_failure_of_one_ranking_is_the_failure_of_all(http: httpx.AsyncClient, client: StandIn) -> None:
    client.busy = cc.OverloadedError("full")

    assert (await http.post("/score", json={"text_1": ["a", "b"], "text_2": ["a", "b"]})).status_code == 429


async def test_texts_are_pooled(http: httpx.AsyncClient) -> None:
    told = await answer(http, "/pooling", input=["ab", "c"], model="letters", dimensions=4)

    assert [(item["object"], np.shape(item["data"])) for item in told["data"]] == [("pooling", (4,))] * 2


async def test_tokens_are_left_apart_on_request(http: httpx.AsyncClient, every_kind: StandIn) -> None:
    told = await answer(http, "/pooling", input="abc", task="token_embed")

    assert (told["model"], np.shape(told["data"][0]["data"])) == ("letters-tokens", (3, 2))


@pytest.mark.parametrize("path", ["/pooling", "/v1/embeddings"])
@pytest.mark.parametrize(
    ("fields", "dtype"),
    [
        pytest.param({}, "<f4", id="little-endian float32"),
        pytest.param({"endianness": "big"}, ">f4", id="big-endian"),
        pytest.param({"endianness": "native"}, "=f4", id="native"),
        pytest.param({"embed_dtype": "float16"}, "<f2", id="float16"),
        pytest.param({"embed_dtype": "float16", "endianness": "big"}, ">f2", id="big-endian float16"),
    ],
)
async def test_base64_has_the_type_and_the_order_of_bytes_that_were_asked_for(
    http: httpx.AsyncClient, path: str, fields: dict[str, Any], dtype: str
) -> None:
    (listed,) = (await answer(http, path, input="abc"))["data"]
    (packed,) = (await answer(http, path, input="abc", encoding_format="base64", **fields))["data"]

    key = "data" if path == "/pooling" else "embedding"
    assert np.frombuffer(base64.b64decode(packed[key]), dtype) == pytest.approx(listed[key], rel=1e-3)


async def test_bfloat16_is_the_nearest_of_its_numbers(http: httpx.AsyncClient) -> None:
    (listed,) = (await answer(http, "/pooling", input="abc"))["data"]
    (packed,) = (await answer(http, "/pooling", input="abc", encoding_format="base64", embed_dtype="bfloat16"))["data"]

    bits = np.frombuffer(base64.b64decode(packed["data"]), "<u2").astype(np.uint32) << 16
    assert bits.view(np.float32) == pytest.approx(listed["data"], rel=2**-8)


def test_bfloat16_rounds_halves_to_even() -> None:
    between = np.array([0x3F808000, 0x3F818000, 0x3F808001], np.uint32).view(np.float32)

    assert floats(between, "bfloat16").tolist() == [0x3F80, 0x3F82, 0x3F81]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": "ab"}),
        ("/pooling", {"input": "ab"}),
        ("/score", {"text_1": "ab", "text_2": "a"}),
        ("/rerank", {"query": "ab", "documents": ["a"]}),
    ],
)
async def test_what_is_cut_is_said_alike_on_every_path(
    http: httpx.AsyncClient, client: StandIn, path: str, body: dict[str, Any]
) -> None:
    await answer(http, path, **body, truncate_prompt_tokens=-1, truncation_side="left")
    refused = await http.post(path, json={**body, "truncate_prompt_tokens": 3})

    assert client.calls[0][1]["truncate"] == "start"
    assert (refused.status_code, "truncate_prompt_tokens" in refused.text) == (400, True)


async def test_base64_holds_the_same_numbers(http: httpx.AsyncClient) -> None:
    listed = await answer(http, "/pooling", input="ab")
    packed = await answer(http, "/pooling", input="ab", encoding_format="base64")

    assert np.frombuffer(base64.b64decode(packed["data"][0]["data"]), "<f4") == pytest.approx(listed["data"][0]["data"])


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("/score", {"text_1": "a"}, 422, id="one side"),
        pytest.param("/score", {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, 400, id="two with three"),
        pytest.param("/score", {"text_1": "a", "queries": "a", "text_2": "b"}, 400, id="a side twice"),
        pytest.param("/score", {"text_1": "a", "text_2": [1]}, 422, id="token ids"),
        pytest.param("/score", {"text_1": "a", "text_2": ["b"] * 2049}, 400, id="too many"),
        pytest.param("/score", {"text_1": "a", "text_2": "b", "truncate_prompt_tokens": 9}, 400, id="another length"),
        pytest.param("/score", {"text_1": "a", "text_2": "b", "model": "letters"}, 400, id="an embedding model"),
        pytest.param("/pooling", {"input": "a", "task": "classify"}, 400, id="an unknown task"),
        pytest.param("/pooling", {}, 422, id="no input"),
    ],
)
async def test_a_bad_request_gets_openais_error(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], status: int
) -> None:
    response = await http.post(path, json=body)

    assert (response.status_code, response.json()["error"]["type"]) == (status, "invalid_request_error")


async def test_a_wrong_pair_is_named_by_its_place(
    http: httpx.AsyncClient, client: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    rerank = client.rerank

    async def refuse(query: str, documents: list[str], **options: Any) -> Any:
        if "bad" in documents:
            place = documents.index("bad")
            raise cc.InvalidInputError(f"documents[{place}] is too long", [place])
        return await rerank(query, documents, **options)

    monkeypatch.setattr(client, "rerank", refuse)
    response = await http.post("/score", json={"text_1": ["a", "b", "b"], "text_2": ["c", "d", "bad"]})

    assert (response.status_code, "documents[2] is too long" in response.text) == (400, True)
