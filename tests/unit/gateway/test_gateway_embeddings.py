from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.unit.gateway.conftest import DIMENSION, model_info

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import Serve, StandIn

URL = "/v1/embeddings"


async def vectors_of(http: httpx.AsyncClient, **body: Any) -> np.ndarray[Any, Any]:
    response = await http.post(URL, json=body)
    assert response.status_code == 200, response.text
    rows = [item["embedding"] for item in response.json()["data"]]
    if body.get("encoding_format") == "base64":
        return np.array([np.frombuffer(base64.b64decode(row), dtype="<f4") for row in rows])
    return np.array(rows, dtype=np.float32)


async def test_the_answer_has_openais_shape_and_counts_real_tokens(http: httpx.AsyncClient) -> None:
    response = await http.post(URL, json={"model": "letters", "input": ["ab", "c"]})

    answer = response.json()
    assert response.headers["content-type"] == "application/json"
    assert {**answer, "data": None} == {
        "object": "list",
        "data": None,
        "model": "letters",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    assert [(item["object"], item["index"], len(item["embedding"])) for item in answer["data"]] == [
        ("embedding", 0, 8),
        ("embedding", 1, 8),
    ]


async def test_base64_holds_the_same_float32_as_the_numbers(http: httpx.AsyncClient) -> None:
    body = {"input": ["some text", "another"]}

    exact = await vectors_of(http, **body, encoding_format="base64")

    assert np.array_equal(exact, await vectors_of(http, **body, encoding_format="float"))


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        pytest.param("ab", 1, id="string"),
        pytest.param(["ab", "cd"], 2, id="strings"),
        pytest.param([101, 97, 98, 102], 1, id="token ids"),
        pytest.param([[101, 97, 102], [101, 98, 102]], 2, id="rows of token ids"),
        pytest.param(" ", 1, id="blank"),
        pytest.param("\0", 1, id="NUL byte"),
        pytest.param("héllo 👋🏽 \u202e", 1, id="any Unicode"),
        pytest.param(["ab"] * 2048, 2048, id="as many as allowed"),
    ],
)
async def test_every_kind_of_input_is_embedded(http: httpx.AsyncClient, given: Any, rows: int) -> None:
    assert (await vectors_of(http, input=given)).shape == (rows, 8)


async def test_token_ids_give_the_vector_of_their_text(http: httpx.AsyncClient) -> None:
    by_ids = await vectors_of(http, input=[101, ord("a"), ord("b"), 102])

    assert np.array_equal(by_ids, await vectors_of(http, input="ab"))


async def test_dimensions_shorten_the_vectors(http: httpx.AsyncClient) -> None:
    assert (await vectors_of(http, input="ab", dimensions=4)).shape == (1, 4)


@pytest.mark.parametrize("user", ["me", 7, ["me"], {"id": 7}, None], ids=repr)
async def test_what_is_not_used_may_be_anything(http: httpx.AsyncClient, user: object) -> None:
    assert (await vectors_of(http, input="ab", user=user, priority="high")).shape == (1, 8)


async def test_jinas_objects_are_their_texts(http: httpx.AsyncClient) -> None:
    objects = await vectors_of(http, input=[{"text": "ab"}, "c"])

    assert np.array_equal(objects, await vectors_of(http, input=["ab", "c"]))


@pytest.mark.parametrize("path", ["/openai/deployments/letters/embeddings", "/openai/v1/embeddings"])
async def test_azures_paths_are_served(http: httpx.AsyncClient, path: str) -> None:
    response = await http.post(path, params={"api-version": "2024-10-21"}, json={"input": "ab", "model": "letters"})

    assert (response.status_code, response.json()["model"]) == (200, "letters")


async def test_azures_deployment_is_the_model(http: httpx.AsyncClient) -> None:
    good = await http.post("/openai/deployments/letters/embeddings", json={"input": "ab", "model": "ada"})
    bad = await http.post("/openai/deployments/gpt/embeddings", json={"input": "ab", "model": "letters"})

    assert (good.status_code, bad.status_code) == (200, 404)


async def test_an_error_is_said_in_every_word_that_clients_of_the_path_read(http: httpx.AsyncClient) -> None:
    told = (await http.post(URL, json={"input": "a", "model": "gpt-9"})).json()

    assert set(told) == {"error", "message", "detail"}
    assert told["error"]["message"] == told["message"] == told["detail"]


@pytest.mark.parametrize(
    ("path", "name", "body"),
    [
        (URL, "letters", {"input": "a"}),
        ("/v2/embed", "letters", {"texts": ["a"]}),
        ("/embed", "letters", {"inputs": "a"}),
        ("/api/embed", "letters", {"input": "a"}),
        ("/v1/rerank", "overlap", {"query": "a", "documents": ["a"]}),
    ],
)
async def test_a_name_may_have_ollamas_tag_on_every_path(
    http: httpx.AsyncClient, path: str, name: str, body: dict[str, Any]
) -> None:
    assert (await http.post(path, json={"model": f"{name}:latest", **body})).status_code == 200
    assert (await http.post(path, json={"model": f"{name}:other", **body})).status_code == 404


@pytest.mark.parametrize(
    ("fields", "prompt_name"),
    [
        pytest.param({}, None, id="the model's default"),
        pytest.param({"input_type": "query"}, "query", id="query"),
        pytest.param({"input_type": "passage"}, "document", id="passage is called document here"),
        pytest.param({"input_type": "document"}, "document", id="document"),
        pytest.param({"input_type": "query", "prompt_name": "document"}, "document", id="the name wins"),
    ],
)
async def test_what_a_text_is_for_picks_the_models_prompt(
    http: httpx.AsyncClient, client: StandIn, fields: dict[str, str], prompt_name: str | None
) -> None:
    await vectors_of(http, input="ab", **fields)

    assert client.calls[0][1]["prompt_name"] == prompt_name


async def test_a_purpose_that_makes_no_difference_may_be_said_of_ids(http: httpx.AsyncClient) -> None:
    ids = [101, 97, 102]
    assert np.array_equal(await vectors_of(http, input=ids, input_type="clustering"), await vectors_of(http, input=ids))


@pytest.mark.parametrize(
    ("fields", "passed"),
    [
        pytest.param({}, "start", id="the setting"),
        pytest.param({"truncate": "none"}, "none", id="the request"),
        pytest.param({"truncate": "END"}, "end", id="capitals as NIM writes it"),
    ],
)
async def test_truncation_follows_the_request_then_the_setting(
    http_with: Serve, client: StandIn, fields: dict[str, str], passed: str
) -> None:
    async with http_with(truncate="start") as http:
        await vectors_of(http, input="ab", **fields)

    assert client.calls[0][1]["truncate"] == passed


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        pytest.param({}, 422, "input", id="no input"),
        pytest.param({"input": None}, 422, "input", id="null"),
        pytest.param({"input": 7}, 422, "input", id="number"),
        pytest.param({"input": {"text": "a"}}, 422, "input", id="object"),
        pytest.param({"input": [{"image": "a"}]}, 422, "input", id="Jina's images"),
        pytest.param({"input": ["a", 1]}, 422, "input", id="mixed"),
        pytest.param({"input": [1, True]}, 422, "input", id="true is no token id"),
        pytest.param({"input": [1.0]}, 422, "input", id="a float is no token id"),
        pytest.param({"input": [2**64]}, 422, "input", id="an integer beyond 64 bits"),
        pytest.param({"input": [[1], ["a"]]}, 422, "input", id="rows of strings"),
        pytest.param({"input": [["a"]]}, 422, "input", id="nested strings"),
        pytest.param({"input": [[[1]]]}, 422, "input", id="nested too deep"),
        pytest.param({"input": "a", "dimensions": "4"}, 422, "dimensions", id="dimensions as string"),
        pytest.param({"input": "a", "dimensions": True}, 422, "dimensions", id="dimensions as boolean"),
        pytest.param({"input": "a", "dimensions": 4.0}, 422, "dimensions", id="dimensions as float"),
        pytest.param({"input": "a", "encoding_format": 5}, 422, "encoding_format", id="format as number"),
        pytest.param({"input": "a", "model": ["letters"]}, 422, "model", id="model as list"),
        pytest.param({"input": ""}, 400, "input", id="empty string"),
        pytest.param({"input": []}, 400, "input", id="empty list"),
        pytest.param({"input": ["a", ""]}, 400, "input", id="an empty string among others"),
        pytest.param({"input": [[1], []]}, 400, "input", id="an empty row of ids"),
        pytest.param({"input": ["a"] * 2049}, 400, "input", id="too many"),
        pytest.param({"input": [-1]}, 400, "input", id="negative id"),
        pytest.param({"input": [2**31]}, 400, "input", id="id beyond 31 bits"),
        pytest.param({"input": "a", "dimensions": -1}, 400, "dimensions", id="negative dimensions"),
        pytest.param({"input": "a", "dimensions": 0}, 400, "dimensions", id="no dimensions"),
        pytest.param({"input": "a", "dimensions": 9}, 400, "dimensions", id="more dimensions than there are"),
        pytest.param({"input": "a", "dimensions": 10**18}, 400, "dimensions", id="absurd dimensions"),
        pytest.param({"input": "a", "encoding_format": "hex"}, 400, "encoding_format", id="unknown format"),
        pytest.param({"input": "a", "input_type": "image"}, 400, "input_type", id="unknown input type"),
        pytest.param({"input": "a", "truncate": "middle"}, 400, "truncate", id="unknown truncation"),
        pytest.param({"input": [1], "prompt_name": "query"}, 400, "prompt_name", id="a prompt before ids"),
        pytest.param({"input": [1], "input_type": "query"}, 400, "input_type", id="a purpose of ids that has a prompt"),
        pytest.param({"input": [1], "task": "retrieval.passage"}, 400, "input_type", id="Jina's word for it"),
        pytest.param({"input": [1], "model": "letters-query"}, 400, "input_type", id="NIM's word for it"),
        pytest.param({"input": "a", "model": "x" * 257}, 400, "model", id="a name too long to be one"),
        pytest.param({"input": "a", "model": "overlap"}, 400, "model", id="a reranker"),
        pytest.param({"input": "a", "model": "gpt-9"}, 404, "model", id="unknown model"),
        pytest.param({"input": "a", "model": ""}, 404, "model", id="model without a name"),
    ],
)
async def test_a_bad_request_gets_its_status_and_names_the_field(
    http: httpx.AsyncClient, body: dict[str, Any], status: int, param: str
) -> None:
    response = await http.post(URL, json=body)

    error = response.json()["error"]
    assert (response.status_code, error["param"], error["type"]) == (status, param, "invalid_request_error")
    assert error["message"]


async def test_ids_of_a_tokenizer_that_was_replaced_meanwhile_are_not_served(
    http: httpx.AsyncClient, client: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = client.embed

    async def embed_during_a_deployment(texts: list[list[int]], **options: Any) -> Any:
        client.served[0] = replace(client.served[0], tokenizer_sha256="2" * 64)
        return await embed(texts, **options)

    monkeypatch.setattr(client, "embed", embed_during_a_deployment)
    await vectors_of(http, input="ab")

    assert [name for name, _ in client.calls] == ["tokenize", "embed", "tokenize", "embed"]


async def test_a_wrong_item_is_named_by_its_place(http: httpx.AsyncClient) -> None:
    response = await http.post(URL, json={"input": ["a", "b", ""]})

    assert response.json()["error"]["message"] == "input: item 2 is empty; leave it out or send some text"


async def test_texts_of_a_model_that_does_not_pool_prompts_keep_their_prompt_apart(
    http: httpx.AsyncClient, client: StandIn
) -> None:
    client.served[0] = replace(client.served[0], pools_prompt=False)
    body = {"model": "letters", "input": ["ab", "c"], "input_type": "query", "dimensions": 4}

    answer = (await http.post(URL, json=body)).json()

    assert client.embedded == [["ab", "c"]]  # text, as ids would not say where the prompt ends
    assert client.calls[-1][1] | {"prompt_name": "query", "dimensions": 4} == client.calls[-1][1]
    assert [len(item["embedding"]) for item in answer["data"]] == [4, 4]
    assert answer["usage"]["prompt_tokens"] == 7


CHECKPOINT = "2" * 64


async def test_an_answer_names_its_vector_space(http: httpx.AsyncClient, client: StandIn) -> None:
    assert "x-conch-space-id" not in (await http.post(URL, json={"input": "a"})).headers
    client.served[0] = replace(client.served[0], checkpoint_sha256=CHECKPOINT)
    listed = (await http.get("/v1/models/letters")).json()["space_id"]
    plain = await http.post(URL, json={"input": "a"})
    assert (plain.headers["x-conch-space-id"], "space_id" in plain.json()) == (listed, False)
    short = await http.post(URL, json={"input": "a", "dimensions": 4, "expect_space": f"{listed}/4"})
    assert short.headers["x-conch-space-id"] == short.json()["space_id"] == f"{listed}/4"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (URL, {"input": "a"}),
        (URL, {"input": "a", "vector_type": "sparse"}),
        ("/v2/embed", {"texts": ["a"], "input_type": "search_query", "embedding_types": ["float"]}),
        ("/api/embed", {"model": "letters", "input": "a"}),
        ("/embed", {"inputs": "a"}),
        ("/v1/rerank", {"query": "q", "documents": ["d"]}),
    ],
)
async def test_another_vector_space_than_expected_is_a_conflict(
    http: httpx.AsyncClient, client: StandIn, path: str, body: dict[str, Any]
) -> None:
    client.served.append(model_info("terms", "sparse", dimension=DIMENSION))
    answer = await http.post(path, json=body, headers={"x-conch-expect-space": "0123456789abcdef"})
    assert answer.status_code == 409
    assert "states no vector space" in answer.text
    assert not client.embedded


async def test_the_space_may_be_expected_in_the_body(http: httpx.AsyncClient, client: StandIn) -> None:
    client.served[0] = replace(client.served[0], checkpoint_sha256=CHECKPOINT)
    answer = await http.post(URL, json={"input": "a", "expect_space": "0123456789abcdef"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "space_mismatch")
    assert "answers in the vector space" in answer.json()["error"]["message"]


async def test_a_bridge_answers_those_who_accept_vectors_close_to_the_space(
    http: httpx.AsyncClient, client: StandIn
) -> None:
    bridge = {"checkpoint_sha256": CHECKPOINT, "bridge_sha256": "3" * 64, "bridges_to": "0123456789abcdef"}
    client.served.append(model_info("letters-as-runes", "embedding", base="letters", **bridge))
    listed = (await http.get("/v1/models/letters-as-runes")).json()
    assert (listed["base"], listed["bridges_to"]) == ("letters", "0123456789abcdef")

    body = {"model": "letters-as-runes", "input": "a"}
    refused = await http.post(URL, json=body, headers={"x-conch-expect-space": "0123456789abcdef"})
    assert refused.status_code == 409
    assert "'~0123456789abcdef'" in refused.json()["error"]["message"]
    assert not client.embedded

    answered = await http.post(URL, json={**body, "expect_space": "~0123456789abcdef"})
    assert answered.status_code == 200
    assert answered.json()["space_id"] == listed["space_id"] != "0123456789abcdef"  # its own, as it is no other
