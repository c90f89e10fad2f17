"""What models of another server are asked for beside dense vectors, on which surfaces, and in which words."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.unit.gateway.other_server import TOKENS, VECTOR, answer_with, late, packed, sparse

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import Serve
    from tests.unit.gateway.other_server import OtherServer

ALL_KINDS = 'vector_types = ["dense", "late", "sparse"]'
RERANKER = 'task = "rerank"'


async def answered(http: httpx.AsyncClient, path: str, **body: Any) -> Any:
    response = await http.post(path, json={"model": "far", **body})
    assert response.status_code == 200, response.text
    return response.json()


async def test_token_vectors_are_asked_for_in_conchs_own_words(http_of: Serve, other: OtherServer) -> None:
    async with http_of(ALL_KINDS) as http:
        told = await answered(http, "/v1/embeddings", input=["ab", "c"], vector_type="late")
        packed_too = await answered(
            http, "/v1/embeddings", input=["ab", "c"], vector_type="late", encoding_format="base64"
        )
    assert told["model"] == "far"
    assert [item["embedding"] for item in told["data"]] == [[[2, 0.5], [2, 0.5]], [[1, 0.5]]]
    assert [item["shape"] for item in packed_too["data"]] == [[2, 2], [1, 2]]
    assert told["usage"] == {"prompt_tokens": TOKENS, "total_tokens": TOKENS}
    assert other.requests[0] == {
        "model": "theirs",
        "input": ["ab", "c"],
        "vector_type": "late",
        "encoding_format": "base64",
        "truncate": "end",
    }


async def test_sparse_vectors_are_asked_for_in_conchs_own_words(http_of: Serve, other: OtherServer) -> None:
    async with http_of(ALL_KINDS) as http:
        told = await answered(http, "/v1/embeddings", input=["ba"], vector_type="sparse", truncate="none")
    assert told["data"][0]["embedding"] == {"indices": [97, 98], "values": [0.5, 0.5]}
    assert other.requests == [{"model": "theirs", "input": ["ba"], "vector_type": "sparse", "truncate": "none"}]


async def test_a_ranking_is_asked_for_in_the_words_of_jina_and_cohere(http_of: Serve, other: OtherServer) -> None:
    async with http_of(RERANKER) as http:
        told = await answered(http, "/v1/rerank", query="q", documents=["aa", "aaa", "a"], top_n=2)
    assert [(item["index"], item["relevance_score"]) for item in told["results"]] == [(1, 0.03), (0, 0.02)]
    assert (told["model"], told["usage"]["total_tokens"]) == ("far", TOKENS)
    assert other.requests[0] == {
        "model": "theirs",
        "query": "q",
        "documents": ["aa", "aaa", "a"],
        "top_n": 2,
        "return_documents": False,
        "truncate": "end",
    }
    assert other.heads[0].startswith("post /v1/rerank ")


async def test_raw_scores_are_asked_for_in_every_servers_words(http_of: Serve, other: OtherServer) -> None:
    async with http_of(RERANKER) as http:
        ranked = await answered(http, "/v1/ranking", query={"text": "q"}, passages=[{"text": "a"}, {"text": "aa"}])
    assert ranked["rankings"] == [{"index": 1, "logit": 2.0}, {"index": 0, "logit": 1.0}]
    assert (other.requests[0]["raw_scores"], other.requests[0]["use_activation"]) == (True, False)


SURFACES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "OpenAI": (ALL_KINDS, "/v1/embeddings", {"input": "ab", "embedding_type": ["int8", "base64"]}),
    "Cohere": (ALL_KINDS, "/v2/embed", {"texts": ["ab"], "embedding_types": ["float", "int8"]}),
    "TEI": (ALL_KINDS, "/embed", {"inputs": "ab"}),
    "TEI, every token": (ALL_KINDS, "/embed_all", {"inputs": ["ab", "c"]}),
    "TEI, sparse": (ALL_KINDS, "/embed_sparse", {"inputs": ["ab", "c"]}),
    "vLLM": (ALL_KINDS, "/pooling", {"input": "ab"}),
    "vLLM, every token": (ALL_KINDS, "/pooling", {"input": "ab", "task": "token_embed"}),
    "Ollama": (ALL_KINDS, "/api/embed", {"input": ["ab"]}),
    "similarity": (ALL_KINDS, "/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b", "c"]}}),
    "Cohere's ranking": (RERANKER, "/v2/rerank", {"query": "q", "documents": ["a", "b"]}),
    "TEI's ranking": (RERANKER, "/rerank", {"query": "q", "texts": ["a", "b"]}),
    "vLLM's scores": (RERANKER, "/score", {"text_1": "q", "text_2": ["a", "bb"]}),
    "TEI's scores": (RERANKER, "/predict", {"inputs": [["q", "a"], ["p", "bb"]]}),
}


@pytest.mark.parametrize(("table", "path", "body"), SURFACES.values(), ids=SURFACES)
async def test_every_surface_serves_it(http_of: Serve, table: str, path: str, body: dict[str, Any]) -> None:
    async with http_of(table) as http:
        await answered(http, path, **body)


async def test_scores_of_pairs_keep_their_order(http_of: Serve) -> None:
    async with http_of(RERANKER) as http:
        told = await answered(http, "/score", text_1=["q", "p", "q"], text_2=["a", "aa", "aaa"])
    assert [item["score"] for item in told["data"]] == [0.01, 0.02, 0.03]


async def test_similarity_is_the_cosine_even_of_vectors_that_are_not_normalized(
    http_of: Serve, other: OtherServer
) -> None:
    other.script = [(200, answer_with([[3.0, 0.0], [0.0, 5.0], [2.0, 2.0]]), {})]
    async with http_of() as http:
        told = await answered(http, "/similarity", inputs={"source_sentence": "a", "sentences": ["b", "c"]})
    np.testing.assert_allclose(told, [0.0, 0.5**0.5], atol=1e-6)


async def test_vectors_are_as_they_came_where_that_is_asked_for(http_of: Serve, other: OtherServer) -> None:
    other.script = [(200, answer_with([[3.0, 4.0]]), {})] * 2
    async with http_of() as http:
        raw, usual = [await answered(http, "/embed", inputs="a", normalize=normalize) for normalize in (False, True)]
    assert raw == [[3.0, 4.0]]
    np.testing.assert_allclose(usual, [[0.6, 0.8]], rtol=1e-6)


NONSENSE: dict[str, tuple[str, str, dict[str, Any], Any, str]] = {
    name: (ALL_KINDS, "/v1/embeddings", {"input": ["ab"], "vector_type": kind}, answer_with([item]), told)
    for name, kind, item, told in (
        ("token vectors without a shape", "late", {"embedding": packed([[1, 2]])}, "cannot be read"),
        ("a shape that is none", "late", {**late([[1, 2]]), "shape": [-1, 2]}, "cannot be read"),
        ("a shape of other bytes", "late", {**late([[1, 2]]), "shape": [2, 2]}, "cannot be read"),
        ("a shape beyond all numbers", "late", {**late([[1, 2]]), "shape": [2**62, 2**62]}, "cannot be read"),
        ("one vector for all tokens", "late", {"embedding": [1.0, 2.0]}, "cannot be read"),
        ("token vectors that are not finite", "late", late([[1, np.inf]]), "not finite"),
        ("terms without weights", "sparse", sparse([1, 2], [0.5]), "cannot be read"),
        ("terms out of order", "sparse", sparse([2, 1], [0.5, 0.5]), "cannot be read"),
        ("a term twice", "sparse", sparse([1, 1], [0.5, 0.5]), "cannot be read"),
        ("terms below zero", "sparse", sparse([-1], [0.5]), "cannot be read"),
        ("terms that are no integers", "sparse", sparse([1.5], [0.5]), "cannot be read"),
        ("weights that are not finite", "sparse", sparse([1], [1e39]), "not finite"),
        ("a dense vector for terms", "sparse", {"embedding": [1.0, 2.0]}, "cannot be read"),
        ("no numbers at all", "dense", {"embedding": []}, "cannot be read"),
        ("words for numbers", "dense", {"embedding": ["one"]}, "cannot be read"),
    )
} | {
    name: (RERANKER, "/v1/rerank", {"query": "q", "documents": ["a", "b"]}, {"results": results}, told)
    for name, results, told in (
        ("a document left out", [{"index": 0, "relevance_score": 1}], "1 documents instead of 2"),
        ("a document twice", [{"index": 0, "relevance_score": 1}] * 2, "2 documents instead of 2"),
        ("a strange document", [{"index": at, "relevance_score": 1} for at in (0, 2)], "was not sent"),
        ("a document before the first", [{"index": at, "relevance_score": 1} for at in (0, -1)], "cannot be read"),
        ("no score", [{"index": 0}, {"index": 1}], "cannot be read"),
        ("a score that is no number", [{"index": at, "relevance_score": "much"} for at in (0, 1)], "cannot be read"),
        ("no list", {"index": 0}, "cannot be read"),
    )
}


@pytest.mark.parametrize(("table", "path", "body", "planned", "told"), NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_is_not_handed_on(
    http_of: Serve, other: OtherServer, table: str, path: str, body: dict[str, Any], planned: Any, told: str
) -> None:
    other.script = [(200, planned, {})]
    async with http_of(table) as http:
        answer = await http.post(path, json={"model": "far", **body})
    assert answer.status_code == 502
    assert told in answer.text


@pytest.mark.parametrize("fault", ["reset", (503, {}, {})], ids=["reset", "503"])
@pytest.mark.parametrize("surface", ["TEI, every token", "TEI, sparse", "TEI's ranking"])
async def test_what_passes_is_tried_again(http_of: Serve, other: OtherServer, surface: str, fault: Any) -> None:
    table, path, body = SURFACES[surface]
    other.script = [fault]
    async with http_of(table) as http:
        await answered(http, path, **body)
    assert len(other.requests) == 2


@pytest.mark.parametrize(
    ("table", "path", "body", "told"),
    [
        pytest.param("", "/embed_all", {"inputs": "a"}, "vector_types", id="token vectors"),
        pytest.param("", "/embed_sparse", {"inputs": "a"}, "vector_types", id="sparse vectors"),
        pytest.param("", "/rerank", {"query": "q", "texts": ["a"]}, "task", id="a ranking"),
        pytest.param(RERANKER, "/embed", {"inputs": "a"}, "task", id="vectors of a reranker"),
        pytest.param('vector_types = ["late"]', "/embed", {"inputs": "a"}, "vector_types", id="dense vectors"),
        pytest.param(
            "dimension = 3\nmatryoshka_dimensions = [2]",
            "/embed",
            {"inputs": "a", "dimensions": 1},
            "matryoshka_dimensions",
            id="a length",
        ),
        pytest.param(
            'prompts = {query = "q: "}',
            "/embed",
            {"inputs": "a", "prompt_name": "code"},
            "it has: query",
            id="a prompt",
        ),
    ],
)
async def test_what_is_not_declared_is_refused_and_not_asked_for(
    http_of: Serve, other: OtherServer, table: str, path: str, body: dict[str, Any], told: str
) -> None:
    async with http_of(table) as http:
        answer = await http.post(path, json={"model": "far", **body})
    assert (answer.status_code, other.requests) == (400, [])
    assert told in answer.text


@pytest.mark.parametrize("path", ["/tokenize", "/decode"])
async def test_its_tokenizer_is_not_here(http_of: Serve, path: str) -> None:
    async with http_of() as http:
        answer = await http.post(path, json={"model": "far", "inputs": "a", "ids": [1]})
    assert answer.status_code == 400
    assert "upstream" in answer.json()["error"]


@pytest.mark.parametrize("dimensions", [2, 3], ids=["a declared length", "the whole length"])
async def test_declared_lengths_are_asked_for(http_of: Serve, other: OtherServer, dimensions: int) -> None:
    async with http_of("dimension = 3\nmatryoshka_dimensions = [2]") as http:
        told = await answered(http, "/v1/embeddings", input="a", dimensions=dimensions)
    assert len(told["data"][0]["embedding"]) == dimensions
    assert other.requests[0]["dimensions"] == dimensions


@pytest.mark.parametrize(
    ("dimensions", "told"), [(2, "does not shorten vectors"), (4, "the model has 3")], ids=["fewer", "more"]
)
async def test_a_server_that_takes_no_notice_of_dimensions_is_found_out(
    http_of: Serve, other: OtherServer, dimensions: int, told: str
) -> None:
    other.script = [(200, answer_with([VECTOR]), {})] * 3
    async with http_of() as http:
        for _ in range(2):  # also by the very first request
            answer = await http.post("/v1/embeddings", json={"model": "far", "input": "b", "dimensions": dimensions})
            assert answer.status_code == 400
            assert told in answer.json()["error"]["message"]
            assert answer.json()["error"]["param"] == "dimensions"
        await answered(http, "/v1/embeddings", input="a")


async def test_what_such_a_server_does_not_shorten_is_shortened_here_to_declared_lengths(
    http_of: Serve, other: OtherServer
) -> None:
    other.script = [(200, answer_with([[3.0, 4.0, 12.0]]), {})]
    async with http_of("dimension = 3\nmatryoshka_dimensions = [2]") as http:
        told = await answered(http, "/v1/embeddings", input="a", dimensions=2)
    np.testing.assert_allclose(told["data"][0]["embedding"], [0.6, 0.8], rtol=1e-6)


async def test_vectors_shorter_than_was_asked_for_are_nonsense(http_of: Serve, other: OtherServer) -> None:
    other.script = [(200, answer_with([[1.0]]), {})]
    async with http_of("dimension = 3") as http:
        answer = await http.post("/v1/embeddings", json={"model": "far", "input": "a", "dimensions": 2})
    assert answer.status_code == 502
    assert "1 numbers instead of 2" in answer.text


async def test_without_a_declared_length_the_first_one_counts(http_of: Serve, other: OtherServer) -> None:
    other.script = [(200, answer_with([[1.0, 0.0]]), {}), (200, answer_with([[1.0, 0.0, 0.0]]), {})]
    async with http_of() as http:
        await answered(http, "/v1/embeddings", input="a")
        answer = await http.post("/v1/embeddings", json={"model": "far", "input": "b"})
    assert answer.status_code == 502


async def test_a_server_that_knows_purposes_is_told_them(http_of: Serve, other: OtherServer) -> None:
    async with http_of() as http:
        await answered(http, "/v2/embed", texts=["a"], input_type="search_query")
        await answered(http, "/embed", inputs="a", prompt_name="code")
    assert [(sent["input"], sent.get("input_type"), sent.get("prompt_name")) for sent in other.requests] == [
        (["a"], "search_query", None),
        (["a"], None, "code"),
    ]


PROMPTS = 'prompts = {query = "q: ", document = "d: ", usual = "u: "}\ndefault_prompt_name = "usual"'


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        pytest.param({"input_type": "search_query"}, ["q: a", "q: b"], id="a query"),
        pytest.param({"task": "retrieval.passage"}, ["d: a", "d: b"], id="a passage"),
        pytest.param({"prompt_name": "document"}, ["d: a", "d: b"], id="a prompt by name"),
        pytest.param({}, ["u: a", "u: b"], id="the default"),
        pytest.param({"vector_type": "late", "input_type": "query"}, ["q: a", "q: b"], id="token vectors"),
        pytest.param({"input": [[1, 2]]}, [[1, 2]], id="token ids"),
    ],
)
async def test_declared_prompts_are_put_before_texts_here(
    http_of: Serve, other: OtherServer, fields: dict[str, Any], sent: list[Any]
) -> None:
    async with http_of(f"{ALL_KINDS}\n{PROMPTS}") as http:
        await answered(http, "/v1/embeddings", **{"input": ["a", "b"], **fields})
        listed = (await http.get("/v1/models/far")).json()["prompts"]
    assert other.requests[0]["input"] == sent
    assert not {"input_type", "prompt_name"} & set(other.requests[0])
    assert listed == {"query": "q: ", "document": "d: ", "usual": "u: "}


@pytest.mark.parametrize(
    ("table", "path", "body", "fields"),
    [
        pytest.param(
            "",
            "/v1/embeddings",
            {"input": "a", "input_type": "query", "truncate": "none", "dimensions": 2},
            {"input", "encoding_format", "dimensions"},
            id="vectors",
        ),
        pytest.param(
            RERANKER,
            "/v1/rerank",
            {"query": "q", "documents": ["a"], "truncate": "none"},
            {"query", "documents", "top_n"},
            id="a ranking",
        ),
    ],
)
async def test_a_server_without_extensions_gets_no_fields_but_openais_and_coheres(
    http_of: Serve, other: OtherServer, table: str, path: str, body: dict[str, Any], fields: set[str]
) -> None:
    async with http_of(f"extensions = false\n{table}") as http:
        await answered(http, path, **body)
    assert set(other.requests[0]) == {"model", *fields}


@pytest.mark.parametrize(
    ("table", "path", "body"),
    [
        pytest.param("", "/v1/embeddings", {"input": "a"}, id="vectors"),
        pytest.param(RERANKER, "/v1/rerank", {"query": "q", "documents": ["a"]}, id="a ranking"),
    ],
)
async def test_a_server_without_extensions_is_not_asked_to_cut_the_start(
    http_of: Serve, other: OtherServer, table: str, path: str, body: dict[str, Any]
) -> None:
    async with http_of(f"extensions = false\n{table}") as http:
        response = await http.post(path, json={"model": "far", **body, "truncate": "start"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "truncate")
    assert not other.requests


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/rerank", {"query": "q", "documents": ["a"], "raw_scores": True}, id="Jina"),
        pytest.param("/rerank", {"query": "q", "texts": ["a"], "raw_scores": True}, id="TEI"),
        pytest.param("/v1/score", {"text_1": "q", "text_2": ["a"], "use_activation": False}, id="vLLM"),
        pytest.param("/v1/ranking", {"query": {"text": "q"}, "passages": [{"text": "a"}]}, id="NIM"),
    ],
)
async def test_a_server_without_extensions_is_not_asked_for_raw_scores(
    http_of: Serve, other: OtherServer, path: str, body: dict[str, Any]
) -> None:
    async with http_of(f"extensions = false\n{RERANKER}") as http:
        response = await http.post(path, json={"model": "far", **body})
    assert (response.status_code, "raw_scores" in response.text) == (400, True)
    assert not other.requests


async def test_numbers_survive_the_way_bit_by_bit(http_of: Serve, other: OtherServer) -> None:
    vectors = np.random.default_rng(7).normal(size=(2, 5)).astype(np.float32)
    other.script = [(200, answer_with([late(vectors)]), {})]
    async with http_of(ALL_KINDS) as http:
        told = await answered(http, "/v1/embeddings", input="a", vector_type="late", encoding_format="base64")
    received = np.frombuffer(base64.b64decode(told["data"][0]["embedding"]), "<f4").reshape(2, 5)
    np.testing.assert_array_equal(received, vectors)
