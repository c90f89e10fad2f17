from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import conch_client as cc
import numpy as np
import pytest

from tests.unit.gateway.conftest import model_info

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import Serve, StandIn

CLASSIFIER = model_info("lengths", "classification", labels=("long", "short"), activation="softmax")
SENTENCES = {"source_sentence": "ab", "sentences": ["ab", "xy"]}


async def answer(http: httpx.AsyncClient, path: str, **body: Any) -> Any:
    response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("path", ["/embed", "/"])
@pytest.mark.parametrize(
    ("inputs", "rows"), [("ab", 1), (["ab", "c"], 2), ([101, 102], 1), ([[101], [102]], 2)], ids=str
)
async def test_vectors_are_a_bare_list(http: httpx.AsyncClient, path: str, inputs: Any, rows: int) -> None:
    assert np.shape(await answer(http, path, inputs=inputs)) == (rows, 8)


async def test_options_are_passed_on(http: httpx.AsyncClient, client: StandIn) -> None:
    vectors = await answer(
        http,
        "/embed",
        inputs="ab",
        prompt_name="query",
        dimensions=4,
        truncate=True,
        truncation_direction="Left",
    )

    (_, tokenized), (_, computed) = client.calls
    assert np.shape(vectors) == (1, 4)
    assert (tokenized["prompt_name"], tokenized["truncate"]) == ("query", "start")
    assert computed["dimensions"] == 4


@pytest.mark.parametrize(("path", "call"), [("/embed", "tokenize"), ("/predict", "rerank")])
@pytest.mark.parametrize(("direction", "cut"), [("Left", "start"), ("Right", "end")])
async def test_a_side_alone_says_what_is_cut(
    http_with: Serve, client: StandIn, path: str, call: str, direction: str, cut: str
) -> None:
    async with http_with(truncate="none") as http:
        await answer(http, path, inputs=[["ab", "c"]] if call == "rerank" else "ab", truncation_direction=direction)

    assert {options["truncate"] for name, options in client.calls if name == call} == {cut}


async def test_vectors_that_are_not_to_be_normalised_are_as_the_model_gives_them(
    http: httpx.AsyncClient, client: StandIn
) -> None:
    client.served[0] = replace(client.served[0], normalized=False)

    await answer(http, "/embed", inputs="ab", normalize=False)

    assert client.calls[-1][1]["normalize"] is False


async def test_a_null_field_does_not_hide_that_of_the_parameters(http: httpx.AsyncClient, client: StandIn) -> None:
    await answer(http, "/embed", inputs="ab", prompt_name=None, parameters={"prompt_name": "query", "truncate": None})

    assert client.calls[0][1]["prompt_name"] == "query"


async def test_options_may_be_parameters_as_hugging_face_sends_them(http: httpx.AsyncClient, client: StandIn) -> None:
    await answer(http, "/similarity", inputs=SENTENCES, parameters={"prompt_name": "query", "truncate": False})

    assert (client.calls[0][1]["prompt_name"], client.calls[0][1]["truncate"]) == ("query", "none")


async def test_every_token_has_its_vector_as_the_model_gives_it(http: httpx.AsyncClient, every_kind: StandIn) -> None:
    vectors = await answer(http, "/embed_all", inputs=["ab", "cde"])

    assert [np.shape(rows) for rows in vectors] == [(2, 2), (3, 2)]
    assert every_kind.calls[-1][1]["normalize"] is False


async def test_sparse_vectors_are_lists_of_terms(http: httpx.AsyncClient, every_kind: StandIn) -> None:
    assert await answer(http, "/embed_sparse", inputs="ba") == [
        [{"index": 97, "value": 0.5}, {"index": 98, "value": 0.5}]
    ]


async def test_weights_of_terms_are_not_normalised(http: httpx.AsyncClient, every_kind: StandIn) -> None:
    response = await http.post("/embed_sparse", json={"inputs": "ba", "normalize": True})

    assert response.status_code == 400
    assert response.json()["error"].startswith("normalize: ")
    assert not every_kind.calls


@pytest.mark.parametrize("path", ["/similarity", "/"])
async def test_a_sentence_is_compared_with_others(http: httpx.AsyncClient, path: str) -> None:
    same, other = await answer(http, path, inputs=SENTENCES)

    assert same == pytest.approx(1.0)
    assert other < same


async def test_similarity_is_a_cosine_whatever_is_asked(http: httpx.AsyncClient, client: StandIn) -> None:
    await answer(http, "/similarity", inputs=SENTENCES, normalize=False)

    assert client.calls[-1][1]["normalize"] is True


@pytest.mark.parametrize(
    ("inputs", "scores"),
    [
        pytest.param(["ab", "a"], [{"score": 0.5, "label": "LABEL_0"}], id="a pair"),
        pytest.param(
            [["ab", "a"], ["a", "a"], ["ab", "ab"]],
            [[{"score": score, "label": "LABEL_0"}] for score in (0.5, 1.0, 1.0)],
            id="pairs",
        ),
    ],
)
async def test_pairs_are_scored_by_the_reranker(http: httpx.AsyncClient, inputs: Any, scores: Any) -> None:
    assert await answer(http, "/predict", inputs=inputs) == scores


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [("abc", ["short", "long"]), (["abc"], ["short", "long"]), (["abcd", "efg"], ["long", "short"])],
    ids=str,
)
async def test_a_classifier_gives_its_labels_best_first(
    http: httpx.AsyncClient, client: StandIn, inputs: Any, labels: list[str]
) -> None:
    client.served.append(CLASSIFIER)
    found = await answer(http, "/predict", inputs=inputs, model="lengths", raw_scores=True, truncate=True)

    assert [each["label"] for each in found] == labels
    assert found[0]["score"] == pytest.approx(0.7)
    name, options = client.calls[-1]
    assert (name, options["raw_scores"], options["truncate"]) == ("classify", True, "end")


async def test_texts_and_pairs_are_classified_in_their_order(http: httpx.AsyncClient, client: StandIn) -> None:
    client.served.append(CLASSIFIER)
    found = await answer(http, "/predict", inputs=[["abc"], ["abcd", "efg"]] * 5, model="lengths")

    assert [each[0]["label"] for each in found] == ["short", "long"] * 5


async def test_a_single_text_goes_to_the_classifier_and_a_pair_to_what_the_settings_name(
    http_with: Serve, client: StandIn
) -> None:
    client.served.append(CLASSIFIER)
    async with http_with(rerank_model="overlap", embedding_model="letters") as http:
        assert (await answer(http, "/predict", inputs="abc"))[0]["label"] == "short"
        assert (await answer(http, "/predict", inputs=["ab", "a"]))[0]["label"] == "LABEL_0"


async def test_a_classifier_does_not_rank(http: httpx.AsyncClient, client: StandIn) -> None:
    client.served.append(CLASSIFIER)
    response = await http.post("/rerank", json={"query": "a", "texts": ["b"], "model": "lengths"})

    assert response.status_code == 400
    assert "'lengths' is for classification, not for" in response.json()["error"]


async def test_a_classifier_describes_its_labels(http: httpx.AsyncClient, client: StandIn) -> None:
    client.served = [CLASSIFIER]

    assert (await http.get("/info")).json()["model_type"] == {
        "classifier": {"id2label": {"0": "long", "1": "short"}, "label2id": {"long": 0, "short": 1}}
    }
    assert (await http.get("/v1/models/lengths")).json()["labels"] == ["long", "short"]


@pytest.mark.parametrize(("path", "method"), [("/tokenize", "tokens"), ("/decode", "decode")])
async def test_tokenising_takes_up_room_like_all_other_work(
    http_with: Serve, client: StandIn, monkeypatch: pytest.MonkeyPatch, path: str, method: str
) -> None:
    begun, done = asyncio.Event(), asyncio.Event()

    async def slow(texts: Any, **_: Any) -> list[Any]:
        begun.set()
        await done.wait()
        return [[] for _ in texts] if path == "/tokenize" else [""]

    monkeypatch.setattr(client, method, slow)
    body = {"inputs": ["ab"], "ids": [[1]]}
    async with http_with(max_in_flight_requests=1, max_in_flight_texts=2048) as http:
        first = asyncio.create_task(http.post(path, json=body))
        await begun.wait()
        second = await http.post(path, json=body, headers={"x-request-timeout-s": "1"})
        done.set()
        assert (second.status_code, second.json()["error_type"]) == (429, "Overloaded")
        assert [(await first).status_code, (await http.post(path, json=body)).status_code] == [200, 200]


@pytest.mark.parametrize(("path", "call"), [("/tokenize", "tokens"), ("/decode", "decode")])
async def test_texts_are_split_as_they_are_by_the_model_that_embeds_them(
    http_with: Serve, client: StandIn, path: str, call: str
) -> None:
    client.served.insert(0, replace(client.served[0], name="another"))

    async with http_with(embedding_model="letters", rerank_model="overlap") as http:
        await answer(http, path, inputs="ab", ids=[97])
        await answer(http, "/embed", inputs="ab")

    asked = {options["model"] for name, options in client.calls if name in (call, "embed")}
    assert asked == {"letters"}


async def test_tokens_tell_their_place(http: httpx.AsyncClient) -> None:
    assert await answer(http, "/tokenize", inputs="ab") == [
        [
            {"id": 97, "text": "a", "special": False, "start": 0, "stop": 1},
            {"id": 98, "text": "b", "special": False, "start": 1, "stop": 2},
        ]
    ]


@pytest.mark.parametrize(("ids", "texts"), [([97, 98], ["ab"]), ([[97], [98]], ["a", "b"])], ids=str)
async def test_token_ids_become_texts(http: httpx.AsyncClient, ids: Any, texts: list[str]) -> None:
    assert await answer(http, "/decode", ids=ids) == texts


async def test_the_model_and_the_limits_are_told(http: httpx.AsyncClient) -> None:
    info = (await http.get("/info")).json()

    assert info.pop("version")
    assert info == {
        "model_id": "letters",
        "model_sha": "1" * 64,
        "model_dtype": "fp32",
        "model_type": {"embedding": {"pooling": "mean"}},
        "max_concurrent_requests": 512,
        "max_input_length": 16,
        "max_batch_tokens": 128,
        "max_client_batch_size": 2048,
        "auto_truncate": True,
        "tokenization_workers": 1,
    }


@pytest.mark.parametrize("path", ["/health", "/ping"])
async def test_health_is_a_bare_status(http: httpx.AsyncClient, client: StandIn, http_with: Serve, path: str) -> None:
    well = await http.get(path)
    client.failure = cc.UnavailableError("away")
    async with http_with() as elsewhere:
        ill = await elsewhere.get(path)

    assert [(response.status_code, response.content) for response in (well, ill)] == [(200, b""), (503, b"")]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("/embed", {}, 422, id="no inputs"),
        pytest.param("/embed", {"inputs": ""}, 400, id="an empty text"),
        pytest.param("/embed", {"inputs": SENTENCES}, 422, id="sentences where texts belong"),
        pytest.param("/embed", {"inputs": "a", "parameters": 1}, 422, id="parameters of another type"),
        pytest.param("/embed", {"inputs": "a", "truncation_direction": "Up"}, 400, id="an unknown direction"),
        pytest.param("/embed_all", {"inputs": "a"}, 404, id="no model for token vectors"),
        pytest.param("/similarity", {"inputs": "a"}, 422, id="a text where sentences belong"),
        pytest.param("/similarity", {"inputs": {**SENTENCES, "sentences": []}}, 400, id="nothing to compare with"),
        pytest.param("/similarity", {"inputs": {**SENTENCES, "sentences": [1]}}, 422, id="a number to compare with"),
        pytest.param("/predict", {"inputs": "a"}, 404, id="no model that classifies"),
        pytest.param("/predict", {"inputs": [["a", "b"], [""]]}, 400, id="an empty text to classify"),
        pytest.param("/predict", {"inputs": [["a", "b"], ["a"]]}, 400, id="one text for a reranker"),
        pytest.param("/predict", {"inputs": ["", "a"]}, 400, id="an empty query"),
        pytest.param("/predict", {"inputs": [["a", "b", "c"]]}, 422, id="three texts in a pair"),
        pytest.param("/predict", {"inputs": []}, 422, id="no pair"),
        pytest.param("/tokenize", {"inputs": [1]}, 422, id="ids to tokenise"),
        pytest.param("/decode", {"ids": "a"}, 422, id="text to decode"),
        pytest.param("/decode", {"ids": [-1]}, 400, id="a negative id"),
    ],
)
async def test_a_bad_request_gets_teis_error(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], status: int
) -> None:
    response = await http.post(path, json=body)

    assert (response.status_code, response.json()["error_type"]) == (status, "Validation")
    assert response.json()["error"]


@pytest.mark.parametrize(
    ("failure", "status", "kind"),
    [
        pytest.param(cc.OverloadedError("full"), 429, "Overloaded", id="full"),
        pytest.param(cc.UnavailableError("away"), 503, "Unhealthy", id="away"),
        pytest.param(cc.ServerError("broken"), 500, "Backend", id="broken"),
    ],
)
async def test_a_failure_has_its_kind(
    http: httpx.AsyncClient, client: StandIn, failure: Exception, status: int, kind: str
) -> None:
    client.busy = failure

    response = await http.post("/embed", json={"inputs": "a"})

    assert (response.status_code, response.json()["error_type"]) == (status, kind)
