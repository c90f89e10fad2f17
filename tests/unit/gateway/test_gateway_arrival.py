"""Requests that come while no Triton can be reached: they wait for the first one, for as long as they may."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest
from conch_client import ModelReplacedError, UnavailableError

from tests.waiting import eventually

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import Serve, StandIn

URL, GOOD = "/v1/embeddings", {"input": "ab"}


@pytest.fixture
def away(client: StandIn) -> StandIn:
    client.failure = UnavailableError("nobody there")
    return client


async def sample(http: httpx.AsyncClient, series: str) -> float:
    (value,) = re.findall(rf"^{re.escape(series)} (\S+)$", (await http.get("/metrics")).text, re.MULTILINE)
    return float(value)


async def test_they_are_answered_when_it_has_come_and_count_as_waiting_until_then(
    http_with: Serve, away: StandIn
) -> None:
    async with http_with(triton_wait_s=60) as http:
        asking = [asyncio.ensure_future(http.post(URL, json=GOOD)) for _ in range(3)]

        async def all_wait() -> bool:
            return await sample(http, 'conch_gateway_backlog_requests{model="",state="waiting"}') == 3

        await eventually(all_wait)
        waits_s = await sample(http, 'conch_gateway_predicted_wait_seconds{model=""}')
        away.failure = None
        answers = await asyncio.gather(*asking)

    assert waits_s > 0
    assert [answer.status_code for answer in answers] == [200, 200, 200]


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        pytest.param({}, {}, 503, id="none waits unless it is set"),
        pytest.param({"triton_wait_s": 0.1}, {}, 503, id="as long as is set"),
        pytest.param({"triton_wait_s": 60}, {"x-request-timeout-s": "0.1"}, 504, id="as long as the caller"),
        pytest.param({"triton_wait_s": 60, "timeout_s": 0.1}, {}, 504, id="as long as any request"),
    ],
)
async def test_none_waits_longer_than_it_may(
    http_with: Serve, away: StandIn, settings: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    async with http_with(**settings) as http:
        answer = await http.post(URL, json=GOOD, headers=headers)

    assert answer.status_code == status
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    ("path", "body"),
    [("/tokenize", {"inputs": "ab"}), ("/decode", {"ids": [[97, 98]]}), ("/info", None)],
    ids=["tokenising", "decoding", "describing"],
)
async def test_what_computes_no_vector_waits_too(
    http_with: Serve, away: StandIn, path: str, body: dict[str, Any] | None
) -> None:
    async with http_with(triton_wait_s=60) as http:
        asking = asyncio.ensure_future(http.get(path) if body is None else http.post(path, json=body))

        async def waits() -> bool:
            return await sample(http, 'conch_gateway_backlog_requests{model="",state="waiting"}') == 1

        await eventually(waits)
        away.failure = None
        answer = await asking

    assert answer.status_code == 200


async def test_one_whose_triton_goes_away_is_computed_by_the_next(
    http_with: Serve, client: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed, failures = client.embed, [UnavailableError("gone")]

    async def embed_at_last(*texts: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return await embed(*texts, **options)

    monkeypatch.setattr(client, "embed", embed_at_last)
    async with http_with(triton_wait_s=60) as http:
        assert (await http.post(URL, json=GOOD)).status_code == 200
        assert await sample(http, "conch_gateway_in_flight_tokens") == 0


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        pytest.param(UnavailableError("not loaded"), "cannot be reached", id="a Triton without it"),
        pytest.param(ModelReplacedError("gone"), "replaced again and again", id="another version each time"),
    ],
)
async def test_one_whose_model_is_never_there_is_told_why(
    http_with: Serve, client: StandIn, monkeypatch: pytest.MonkeyPatch, failure: UnavailableError, told: str
) -> None:
    asked = 0

    async def embed(*_: Any, **__: Any) -> Any:
        nonlocal asked
        asked += 1
        raise failure

    monkeypatch.setattr(client, "embed", embed)
    async with http_with(triton_wait_s=60) as http:
        answer = await http.post(URL, json=GOOD)

    assert (answer.status_code, asked) == (503, 3)
    assert told in answer.json()["error"]["message"]


@pytest.mark.parametrize(("wait_s", "status"), [(0, 503), (60, 200)], ids=["that do not wait", "that wait"])
async def test_a_load_balancer_hands_on_requests(http_with: Serve, away: StandIn, wait_s: float, status: int) -> None:
    async with http_with(triton_wait_s=wait_s) as http:
        assert (await http.get("/health/ready")).status_code == status


@pytest.mark.parametrize(("wait_s", "status"), [(0, 503), (60, 200)], ids=["that do not wait", "that wait"])
async def test_so_it_does_where_the_address_of_the_last_one_answers_nothing(
    http_with: Serve, client: StandIn, monkeypatch: pytest.MonkeyPatch, wait_s: float, status: int
) -> None:
    async def models(**_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(client, "models", models)
    async with http_with(triton_wait_s=wait_s, readiness_timeout_s=0.01) as http:
        answer = await http.get("/health/ready")

    assert answer.status_code == status
    assert ("within 0.01 s" in answer.text) == (status == 503)
