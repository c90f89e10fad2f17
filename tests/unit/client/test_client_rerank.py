"""What ``rerank`` promises, for both kinds of reranker and both kinds of client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_client import InvalidInputError, NotComputedError, Ranked, Ranking, ServerError
from conch_client.testing import FakeModel

if TYPE_CHECKING:
    from conch_client.testing import FakeServer

DOCUMENTS = ["xyz", "abd", "abc", "cab", "a", "q" * 30, "bca", "zzz"]


@pytest.mark.parametrize("model", ["overlap", "pairs"])
async def test_the_best_document_comes_first_and_equals_keep_their_order(client: Any, model: str) -> None:
    ranking = await client.rerank("abc", DOCUMENTS, model=model)
    assert isinstance(ranking, Ranking)
    assert [place.index for place in ranking[:3]] == [2, 3, 6]
    assert sorted(place.index for place in ranking) == list(range(len(DOCUMENTS)))
    assert [place.score for place in ranking] == sorted((place.score for place in ranking), reverse=True)


@pytest.mark.parametrize("model", ["overlap", "pairs"])
async def test_a_score_does_not_depend_on_the_other_documents(client: Any, model: str) -> None:
    together = {place.index: place.score for place in await client.rerank("abc", DOCUMENTS, model=model)}
    for index, document in enumerate(DOCUMENTS):
        assert (await client.rerank("abc", [document], model=model))[0].score == pytest.approx(together[index])


async def test_the_query_leads_every_request_of_late_interaction(client: Any, server: FakeServer) -> None:
    ranking = await client.rerank("abc", DOCUMENTS, model="overlap")
    query = (await client.tokenize(["abc"]))[0]
    sent = [request for request in server.received if request.model_name == "overlap"]
    assert len(sent) == 3
    for request in sent:
        ids = np.frombuffer(request.raw_input_contents[0], "<i8").reshape(tuple(request.inputs[0].shape))
        assert ids[0, : len(query)].tolist() == query
    assert ranking.tokens == sum(int(np.frombuffer(request.raw_input_contents[1], "<i8").sum()) for request in sent)


async def test_only_the_best_are_returned_when_asked(client: Any) -> None:
    assert [place.index for place in await client.rerank("abc", DOCUMENTS, top_n=2)] == [2, 3]
    assert len(await client.rerank("abc", DOCUMENTS, top_n=99)) == len(DOCUMENTS)
    with pytest.raises(InvalidInputError, match="top_n must be an integer of at least 1"):
        await client.rerank("abc", DOCUMENTS, top_n=0)


async def test_cross_encoder_scores_are_probabilities_unless_raw(client: Any) -> None:
    raw = await client.rerank("abc", DOCUMENTS, model="pairs", raw_scores=True)
    cooked = await client.rerank("abc", DOCUMENTS, model="pairs")
    assert [place.index for place in raw] == [place.index for place in cooked]
    for before, after in zip(raw, cooked, strict=True):
        assert after.score == pytest.approx(1 / (1 + np.exp(-before.score)))


@pytest.mark.parametrize("raw_scores", [True, False])
async def test_logits_whose_sigmoids_are_equal_are_still_told_apart(
    client: Any, server: FakeServer, raw_scores: bool
) -> None:
    server.models["pairs"].bias = 60.0  # of every one of these logits the sigmoid is exactly 1.0
    documents = ["zyx", "abd", "abc", "xyz"]
    ranking = await client.rerank("abc", documents, model="pairs", raw_scores=raw_scores)
    assert [place.index for place in ranking] == [2, 1, 0, 3]
    assert ranking.raw_scores == sorted(ranking.raw_scores, reverse=True)
    best = await client.rerank("abc", documents, model="pairs", raw_scores=raw_scores, top_n=2)
    assert [place.index for place in best] == [2, 1]
    assert len(best.raw_scores) == 2


@pytest.mark.parametrize(
    ("query", "documents", "message"),
    [
        ("q", [], "documents is empty"),
        ("q", "one", "documents must be a list"),
        ("q", ["a", None], r"documents\[1\] must be a str"),
        (["q"], ["a"], "query must be a str"),
        ("\udc00", ["a"], "query has a lone surrogate"),
    ],
    ids=["no-documents", "bare-document", "none-document", "list-query", "surrogate-query"],
)
async def test_what_cannot_be_ranked_is_refused(client: Any, query: Any, documents: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        await client.rerank(query, documents)


async def test_a_text_that_is_too_long_is_called_by_its_name(client: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"documents\[1\] has 102 tokens"):
        await client.rerank("q", ["a", "b" * 100], model="overlap", truncate="none")
    with pytest.raises(InvalidInputError, match=r"query has 102 tokens"):
        await client.rerank("q" * 100, ["a"], model="overlap", truncate="none")


async def test_documents_that_the_model_refuses_are_named(client: Any, server: FakeServer) -> None:
    server.models["overlap"].refused_token = (await client.tokenize(["#"]))[0][1]
    with pytest.raises(NotComputedError, match=r"refused documents \[1, 6\]"):
        await client.rerank("abc", ["a", "#", "b", "c", "d", "e", "f#"])


async def test_the_default_prompt_of_a_cross_encoder_comes_before_the_query(client: Any, server: FakeServer) -> None:
    prompts = {"prompts": '{"web": "cab "}', "default_prompt_name": "web"}
    server.models["prompted"] = FakeModel(task="cross-encoder", parameters=prompts)
    ranking = await client.rerank("d", DOCUMENTS, model="prompted")
    assert ranking == await client.rerank("cab d", DOCUMENTS, model="pairs")


async def test_late_interaction_needs_room_for_the_query(client: Any, server: FakeServer) -> None:
    server.models["overlap"] = FakeModel(task="late-interaction", max_rows=1)
    with pytest.raises(ServerError, match="export it with more rows"):
        await client.rerank("q", ["a"], model="overlap")


def test_a_ranked_document_is_a_pair() -> None:
    index, score = Ranked(3, 0.5)
    assert (index, score) == (3, 0.5)
