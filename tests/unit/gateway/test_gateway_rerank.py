from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from conch_client import InvalidInputError, Ranked, Ranking

from tests.unit.gateway.conftest import model_info

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import Serve, StandIn

DOCUMENTS = ["xyz", "abc", "a"]  # the stand-in scores shared letters
URLS = ["/rerank", "/v1/rerank", "/v2/rerank"]


async def ranked(http: httpx.AsyncClient, *, url: str = "/v2/rerank", **body: Any) -> Any:
    response = await http.post(url, json={"query": "abcd", **body})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("url", URLS)
async def test_documents_are_ranked_best_first_for_all_dialects_at_once(http: httpx.AsyncClient, url: str) -> None:
    body = {"query": "abcd", "documents": DOCUMENTS, "model": "overlap", "return_documents": False}
    response = await http.post(url, json=body)

    ranked = [
        {"index": 1, "relevance_score": 0.75},
        {"index": 2, "relevance_score": 0.25},
        {"index": 0, "relevance_score": 0.0},
    ]
    voyages = {} if url == "/v2/rerank" else {"object": "list", "data": ranked}
    assert response.json() == {
        "id": response.headers["x-request-id"],
        "model": "overlap",
        "results": ranked,
        **voyages,
        "usage": {"prompt_tokens": 11, "total_tokens": 11},
        "meta": {
            "api_version": {"version": "1" if url == "/v1/rerank" else "2"},
            "billed_units": {"search_units": 1},
        },
    }


async def test_texts_sent_to_rerank_get_teis_bare_list(http: httpx.AsyncClient) -> None:
    assert await ranked(http, url="/rerank", texts=DOCUMENTS, return_text=True) == [
        {"index": 1, "score": 0.75, "text": "abc"},
        {"index": 2, "score": 0.25, "text": "a"},
        {"index": 0, "score": 0.0, "text": "xyz"},
    ]


@pytest.mark.parametrize(
    ("url", "fields", "given_back"),
    [
        pytest.param("/rerank", {}, True, id="vLLM does by default"),
        pytest.param("/v1/rerank", {}, True, id="Jina does by default"),
        pytest.param("/v2/rerank", {}, False, id="Cohere does not"),
        pytest.param("/v1/rerank", {"top_k": 2}, False, id="Voyage does not"),
        pytest.param("/v1/rerank", {"truncation": True}, False, id="Voyage, by another field of its own"),
        pytest.param("/v1/rerank", {"return_documents": False}, False, id="who is told not to"),
        pytest.param("/v2/rerank", {"return_documents": True}, True, id="who is told to"),
        pytest.param("/v1/rerank", {"top_k": 2, "return_documents": True}, True, id="Voyage, told to"),
    ],
)
async def test_documents_are_given_back_where_the_dialect_does(
    http: httpx.AsyncClient, url: str, fields: dict[str, Any], given_back: bool
) -> None:
    answer = await ranked(http, url=url, documents=["abc", {"text": "a", "id": 7}], **fields)

    documents = [item.get("document") for item in answer["results"]]
    assert documents == ([{"text": "abc"}, {"text": "a", "id": 7}] if given_back else [None, None])


async def test_voyages_clients_get_documents_as_strings(http: httpx.AsyncClient) -> None:
    answer = await ranked(http, url="/v1/rerank", documents=DOCUMENTS, top_k=1, return_documents=True)

    assert answer["data"] == [{"index": 1, "relevance_score": 0.75, "document": "abc"}]


async def test_rank_fields_say_what_is_read_of_a_document(http: httpx.AsyncClient, client: StandIn) -> None:
    documents = [{"title": "abc", "text": "xyz"}, {"title": "x", "body": "a"}, "ab"]

    answer = await ranked(http, url="/v1/rerank", documents=documents, rank_fields=["title", "body"])

    assert [(item["index"], item["relevance_score"]) for item in answer["results"]] == [(0, 0.75), (2, 0.5), (1, 0.25)]
    assert [item["document"] for item in answer["results"]] == [documents[0], {"text": "ab"}, documents[1]]


async def test_a_field_that_is_named_again_and_again_is_read_once(http: httpx.AsyncClient, client: StandIn) -> None:
    await ranked(http, url="/v1/rerank", documents=[{"text": "abc"}], rank_fields=["text"] * 64)

    assert client.ranked == [["abc"]]


async def test_what_a_document_has_beyond_its_tokens_is_not_read(http: httpx.AsyncClient) -> None:
    answer = await ranked(http, documents=["xxa", "abcd", "bx"], max_tokens_per_doc=2)  # a letter is a token here

    assert [(item["index"], item["relevance_score"]) for item in answer["results"]] == [(1, 0.5), (2, 0.25), (0, 0.0)]
    assert answer["meta"]["warnings"] == ["documents [0, 1] are longer than 2 tokens, and only those were read"]


async def test_a_long_document_has_the_score_of_its_best_part(http: httpx.AsyncClient, client: StandIn) -> None:
    documents = ["ab", "xxxxxx abxxx xxcdxx", "abcxxxx dxxx", "bcd"]  # eight tokens are a part

    answer = await ranked(http, documents=documents, max_chunks_per_doc=3)

    pieces = ["ab", "xxxxxx ", "abxxx xx", "cdxx", "abcxxxx ", "dxxx", "bcd"]
    assert sorted(client.ranked[-1]) == sorted(pieces)
    scores = [(item["index"], item["relevance_score"]) for item in answer["results"]]
    assert scores == [(2, 0.75), (3, 0.75), (0, 0.5), (1, 0.5)]
    told = "documents [1, 2] were read in parts, of which the one with the highest score counts"
    assert answer["meta"]["warnings"] == [told]


async def test_only_so_many_parts_of_a_document_are_read(http: httpx.AsyncClient, client: StandIn) -> None:
    answer = await ranked(http, documents=["x" * 20 + "abcd", "a"], max_chunks_per_doc=2)

    assert sorted(client.ranked[-1]) == ["a", "x" * 8, "x" * 8]
    assert [item["index"] for item in answer["results"]] == [1, 0]
    assert answer["meta"]["warnings"][0] == "documents [0] are longer than 16 tokens, and only those were read"


async def test_a_request_has_no_more_parts_than_it_may_have_documents(http_with: Serve, client: StandIn) -> None:
    async with http_with(max_inputs=3) as http:
        assert (await ranked(http, documents=["x" * 16, "a"], max_chunks_per_doc=9))["results"]
        body = {"query": "abcd", "documents": ["x" * 17, "a"], "max_chunks_per_doc": 9}
        refused = await http.post("/v2/rerank", json=body)

    assert refused.status_code == 400
    assert "max_chunks_per_doc: the documents are 4 parts, and at most 3 are read" in refused.text
    assert len(client.ranked) == 1


async def test_a_document_is_cut_before_it_is_split(http: httpx.AsyncClient, client: StandIn) -> None:
    await ranked(http, documents=["x" * 24], max_tokens_per_doc=10, max_chunks_per_doc=9)

    assert sorted(client.ranked[-1]) == ["xx", "x" * 8]


async def test_parts_leave_room_for_the_query_beside_them(http: httpx.AsyncClient, client: StandIn) -> None:
    client.served = [model_info("pairs", "cross-encoder", max_length=24)]

    await ranked(http, query="ab", documents=["x" * 30], max_chunks_per_doc=9)
    assert sorted(map(len, client.ranked[-1])) == [2, 14, 14]  # 24 without the query and what is reserved

    await ranked(http, query="ab" * 50, documents=["x" * 30], max_chunks_per_doc=9)
    assert sorted(map(len, client.ranked[-1])) == [6, 8, 8, 8]  # the query keeps half


@pytest.mark.parametrize("word", ["true", "True", "1", "yes", True, 1], ids=repr)
async def test_words_are_understood_as_booleans(http: httpx.AsyncClient, word: object) -> None:
    answer = await ranked(http, documents=["a"], return_documents=word)

    assert answer["results"][0]["document"] == {"text": "a"}


async def test_texts_sent_elsewhere_get_the_envelope(http: httpx.AsyncClient) -> None:
    assert "results" in await ranked(http, url="/v1/rerank", texts=DOCUMENTS)


@pytest.mark.parametrize("fields", [{"return_documents": True}, {"return_text": True}], ids=["documents", "text"])
async def test_texts_are_returned_on_request(http: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    answer = await ranked(http, documents=[{"text": "abc"}, "a"], **fields)

    assert [item["document"] for item in answer["results"]] == [{"text": "abc"}, {"text": "a"}]


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        pytest.param({}, 3, id="all"),
        pytest.param({"top_n": 2}, 2, id="top_n"),
        pytest.param({"top_k": 1}, 1, id="top_k"),
        pytest.param({"top_n": 0}, 3, id="0 is all, as in vLLM"),
        pytest.param({"top_n": 99}, 3, id="more than there are"),
    ],
)
async def test_the_best_n_are_returned(http: httpx.AsyncClient, fields: dict[str, Any], count: int) -> None:
    assert len((await ranked(http, documents=DOCUMENTS, **fields))["results"]) == count


@pytest.mark.parametrize(
    ("fields", "passed"),
    [
        pytest.param({}, "end", id="the setting"),
        pytest.param({"truncate": "START"}, "start", id="a word"),
        pytest.param({"truncate": True}, "end", id="TEI's true"),
        pytest.param({"truncate": True, "truncation_direction": "Left"}, "start", id="TEI's true from the left"),
        pytest.param({"truncate": False}, "none", id="TEI's false"),
        pytest.param({"truncation": False}, "none", id="Voyage's false"),
        pytest.param({"truncate": "False"}, "none", id="false in words"),
        pytest.param({"truncate": "yes"}, "end", id="true in words"),
        pytest.param({"truncate_prompt_tokens": -1}, "end", id="vLLM's -1"),
        pytest.param({"truncate_prompt_tokens": -1, "truncation_side": "left"}, "start", id="vLLM's -1 at the left"),
        pytest.param({"truncate": True, "truncation_direction": "left"}, "start", id="left in small letters"),
        pytest.param({"truncation_direction": "Left"}, "start", id="TEI's left alone"),
        pytest.param({"truncation_side": "left"}, "start", id="vLLM's left alone"),
    ],
)
async def test_truncation_is_understood_in_every_dialect(
    http: httpx.AsyncClient, client: StandIn, fields: dict[str, Any], passed: str
) -> None:
    await ranked(http, documents=DOCUMENTS, **fields)

    assert client.calls[-1][1]["truncate"] == passed


@pytest.mark.parametrize("fields", [{"raw_scores": True}, {"use_activation": False}, {"activation": False}], ids=str)
async def test_raw_scores_are_asked_of_the_model(
    http: httpx.AsyncClient, client: StandIn, fields: dict[str, Any]
) -> None:
    await ranked(http, documents=DOCUMENTS, **fields)

    assert client.calls[-1][1]["raw_scores"] is True


async def test_a_search_unit_is_a_hundred_documents(http: httpx.AsyncClient) -> None:
    answer = await ranked(http, documents=["a"] * 101)

    assert answer["meta"]["billed_units"] == {"search_units": 2}


async def test_the_settings_name_the_model_for_requests_that_do_not(http_with: Serve) -> None:
    async with http_with(rerank_model="elsewhere") as http:
        response = await http.post("/rerank", json={"query": "a", "documents": ["a"]})

    assert response.status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        pytest.param({"documents": ["a"]}, 422, "query", id="no query"),
        pytest.param({"query": "a"}, 422, "documents", id="no documents"),
        pytest.param({"query": ["a"], "documents": ["a"]}, 422, "query", id="query as list"),
        pytest.param({"query": "a", "documents": "a"}, 422, "documents", id="documents as string"),
        pytest.param({"query": "a", "documents": ["a", 1]}, 422, "documents", id="a number among documents"),
        pytest.param({"query": "a", "documents": [{"body": "a"}]}, 422, "documents", id="an object without text"),
        pytest.param({"query": "a", "texts": [{"text": None}]}, 422, "texts", id="an object with null text"),
        pytest.param({"query": "a", "documents": ["a"], "top_n": "1"}, 422, "top_n", id="top_n as string"),
        pytest.param(
            {"query": "a", "documents": ["a"], "return_documents": [1]}, 422, "return_documents", id="a list for a flag"
        ),
        pytest.param(
            {"query": "a", "documents": ["a"], "return_documents": "ja"}, 400, "return_documents", id="another word"
        ),
        pytest.param(
            {"query": "a", "documents": [{"text": "a"}], "rank_fields": ["title"]}, 422, "title", id="a field it lacks"
        ),
        pytest.param({"query": "a", "documents": ["a"], "rank_fields": []}, 400, "rank_fields", id="no field to read"),
        pytest.param(
            {"query": "a", "documents": ["a"], "rank_fields": ["a"] * 65}, 400, "rank_fields", id="too many fields"
        ),
        pytest.param({"query": "a", "documents": ["a"], "max_chunks_per_doc": 0}, 400, "max_chunks", id="no chunk"),
        pytest.param(
            {"query": "a", "documents": ["a", "b" * 17], "max_chunks_per_doc": 2, "truncate": "none"},
            400,
            "documents [1] have more than the 16 tokens that 2 parts hold",
            id="more than its chunks hold",
        ),
        pytest.param(
            {"query": "a", "documents": ["a"], "truncate_prompt_tokens": 3}, 400, "truncate_prompt", id="another length"
        ),
        pytest.param({"query": "a", "documents": ["a"], "truncate": 5}, 422, "truncate", id="truncate as number"),
        pytest.param(
            {"query": "a", "documents": ["a"], "truncate": "middle"}, 400, "truncate", id="unknown truncation"
        ),
        pytest.param({"query": "", "documents": ["a"]}, 400, "query", id="empty query"),
        pytest.param({"query": "a", "documents": []}, 400, "documents", id="no document"),
        pytest.param({"query": "a", "documents": ["a"] * 2049}, 400, "documents", id="too many"),
        pytest.param({"query": "a", "documents": ["a"], "top_n": -1}, 400, "top_n", id="negative top_n"),
        pytest.param({"query": "a", "documents": ["a"], "texts": ["a"]}, 400, "texts", id="documents and texts"),
        pytest.param({"query": "a", "documents": ["a"], "top_n": 1, "top_k": 1}, 400, "top_k", id="top_n and top_k"),
        pytest.param({"query": "a", "documents": ["a"], "model": "letters"}, 400, "model", id="an embedding model"),
        pytest.param({"query": "a", "documents": ["a"], "model": "x"}, 404, "model", id="unknown model"),
    ],
)
async def test_a_bad_request_gets_its_status_and_names_the_field(
    http: httpx.AsyncClient, body: dict[str, Any], status: int, field: str
) -> None:
    response = await http.post("/v2/rerank", json=body)

    assert response.status_code == status
    assert field in response.json()["message"]


@pytest.mark.parametrize(
    ("url", "keys"),
    [
        pytest.param("/rerank", {"error", "error_type"}, id="TEI"),
        pytest.param("/v1/rerank", {"error", "message", "detail"}, id="all who share it"),
        pytest.param("/v2/rerank", {"message"}, id="Cohere"),
    ],
)
async def test_each_path_speaks_of_errors_in_its_own_dialect(http: httpx.AsyncClient, url: str, keys: set[str]) -> None:
    answer = (await http.post(url, json={"query": "a", "documents": []})).json()

    assert set(answer) == keys
    assert "documents" in answer["message" if "message" in keys else "error"]


async def test_a_long_list_is_ranked_in_several_calls_as_in_one(http: httpx.AsyncClient, client: StandIn) -> None:
    documents = ["abcd"[: number % 5] + "x" * number for number in range(30)]

    answer = await ranked(http, documents=documents, top_n=12)

    assert len(client.calls) == 5  # of 7 documents: the query is the eighth row
    expected = sorted(range(30), key=lambda index: (-(index % 5), index))[:12]
    assert [item["index"] for item in answer["results"]] == expected
    assert answer["usage"]["total_tokens"] == 5 * len("abcd") + sum(map(len, documents))


@pytest.mark.parametrize("url", URLS)
async def test_equal_scores_of_a_long_list_are_ordered_by_their_logits(
    http: httpx.AsyncClient, client: StandIn, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    async def saturated(_: str, documents: list[str], **__: Any) -> Ranking:
        order = sorted(range(len(documents)), key=lambda index: -len(documents[index]))
        logits = [40.0 + len(documents[index]) for index in order]
        return Ranking((Ranked(index, 1.0) for index in order), tokens=1, raw_scores=logits)

    monkeypatch.setattr(client, "rerank", saturated)

    lengths = [(number * 7) % 30 for number in range(30)]
    answer = await ranked(http, url=url, documents=["x" * (length + 1) for length in lengths], top_n=20)

    assert [lengths[item["index"]] for item in answer["results"]] == list(range(29, 9, -1))


async def test_what_is_wrong_with_a_document_of_a_long_list_is_told_with_its_place(
    http: httpx.AsyncClient, client: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: str, documents: list[str], **__: Any) -> None:
        if "bad" in documents:
            raise InvalidInputError(f"documents[{documents.index('bad')}] is too long", [documents.index("bad")])
        await asyncio.Event().wait()  # until it is cancelled

    monkeypatch.setattr(client, "rerank", refuse)

    response = await http.post("/rerank", json={"query": "q", "documents": [*["document"] * 20, "bad"]})

    assert (response.status_code, "documents[20]" in response.text) == (400, True)
