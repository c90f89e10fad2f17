from __future__ import annotations

from typing import TYPE_CHECKING, Any

import conch_client as cc
import pytest

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import StandIn

QUESTION = {"query": {"text": "abcd"}, "passages": [{"text": "xyz"}, {"text": "abc"}]}


async def test_passages_are_ranked_by_their_raw_scores(http: httpx.AsyncClient, client: StandIn) -> None:
    response = await http.post("/v1/ranking", json={"model": "overlap", "truncate": "NONE", **QUESTION})

    assert response.json() == {
        "rankings": [{"index": 1, "logit": 0.75}, {"index": 0, "logit": 0.0}],
        "usage": {"prompt_tokens": 10, "total_tokens": 10},
    }
    assert (client.calls[0][1]["raw_scores"], client.calls[0][1]["truncate"]) == (True, "none")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param({"query": "abcd"}, 422, id="a bare query"),
        pytest.param({"query": {"text": ""}}, 400, id="an empty query"),
        pytest.param({"passages": []}, 400, id="no passage"),
        pytest.param({"passages": [{"image": "a"}]}, 422, id="a passage without text"),
    ],
)
async def test_a_bad_question_is_refused(http: httpx.AsyncClient, fields: dict[str, Any], status: int) -> None:
    assert (await http.post("/v1/ranking", json={**QUESTION, **fields})).status_code == status


async def test_health_is_told_in_words(http: httpx.AsyncClient, client: StandIn) -> None:
    client.failure = cc.UnavailableError("away")

    live, ready = await http.get("/v1/health/live"), await http.get("/v1/health/ready")

    assert (live.status_code, live.json()["message"]) == (200, "Service is live.")
    assert (ready.status_code, ready.json()["message"]) == (503, "Service is not ready.")


async def test_it_is_ready_when_every_model_answers(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/health/ready")

    assert (response.status_code, response.json()["object"]) == (200, "health.response")
