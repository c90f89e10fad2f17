from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from conch_client import DeadlineExceededError, NotComputedError, OverloadedError, ServerError, UnavailableError
from conch_gateway.errors import RULES

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import Serve, StandIn


async def test_it_is_ready_when_every_model_answers(http: httpx.AsyncClient, client: StandIn) -> None:
    response = await http.get("/health/ready")

    assert response.status_code == 200
    assert response.json() == {"status": "ready", "models": {"letters": True, "overlap": True}, "reasons": []}
    assert {name for name, _ in client.calls} == {"embed", "rerank"}


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        pytest.param(UnavailableError("ipv4:10.0.0.3:8001"), "unavailable", id="Triton is away"),
        pytest.param(DeadlineExceededError("ipv4:10.0.0.3:8001"), "deadline_exceeded", id="Triton hangs"),
        pytest.param(ServerError("ipv4:10.0.0.3:8001"), "inference_failed", id="Triton fails"),
    ],
)
@pytest.mark.parametrize("of", ["failure", "busy"], ids=["everything", "a model"])
async def test_it_is_not_ready_without_triton_but_alive_and_names_addresses_in_the_log_only(
    http: httpx.AsyncClient,
    client: StandIn,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    reason: str,
    of: str,
) -> None:
    setattr(client, of, failure)

    response = await http.get("/health/ready")

    assert response.status_code == 503
    assert reason in response.json()["reasons"][0]
    assert "10.0.0.3" not in response.text
    assert "10.0.0.3" in caplog.text
    assert (await http.get("/health/live")).status_code == 200


async def test_it_is_not_ready_while_a_model_is_not_loaded(http: httpx.AsyncClient, client: StandIn) -> None:
    client.served[1] = replace(client.served[1], ready=False)

    response = await http.get("/health/ready")

    assert (response.status_code, response.json()["models"]) == (503, {"letters": True, "overlap": False})


async def test_it_is_not_ready_without_any_model(http: httpx.AsyncClient, client: StandIn) -> None:
    client.served.clear()

    assert (await http.get("/health/ready")).status_code == 503


async def test_a_model_that_hangs_is_found_out(http_with: Serve, client: StandIn) -> None:
    client.gate = asyncio.Event()

    async with http_with(readiness_timeout_s=0.05) as http:
        response = await http.get("/health/ready")

    assert response.json()["reasons"] == ["letters: no answer within 0.05 s", "overlap: no answer within 0.05 s"]


@pytest.mark.parametrize(("busy_timeout_s", "status"), [(600, 200), (0.01, 503)], ids=["in time", "for too long"])
async def test_a_model_may_be_at_long_texts(
    http_with: Serve, client: StandIn, busy_timeout_s: float, status: int
) -> None:
    client.gate = asyncio.Event()

    async with http_with(readiness_timeout_s=0.05, readiness_busy_timeout_s=busy_timeout_s) as http:
        request = asyncio.ensure_future(http.post("/v1/embeddings", json={"input": "a long text"}))
        await client.entered.wait()
        readiness = await http.get("/health/ready")
        client.gate.set()
        answer = await request

    assert (readiness.status_code, answer.status_code) == (status, 200)


async def test_a_busy_server_is_still_ready(http: httpx.AsyncClient, client: StandIn) -> None:
    client.busy = OverloadedError("queue full")

    assert (await http.get("/health/ready")).status_code == 200


async def test_many_probes_share_one_look(http: httpx.AsyncClient, client: StandIn) -> None:
    await asyncio.gather(*(http.get("/health/ready") for _ in range(10)))

    assert len(client.calls) == len(client.served)


async def test_metrics_count_requests_tokens_and_errors(http: httpx.AsyncClient) -> None:
    await http.post("/v1/embeddings", json={"input": ["ab", "c"]})
    await http.post("/v1/embeddings", json={"input": ""})

    samples = (await http.get("/metrics")).text.splitlines()

    assert 'conch_gateway_requests_total{model="letters",route="/v1/embeddings",status="200"} 1.0' in samples
    assert 'conch_gateway_requests_total{model="",route="/v1/embeddings",status="400"} 1.0' in samples
    assert 'conch_gateway_tokens_total{model="letters"} 7.0' in samples
    assert 'conch_gateway_texts_total{model="letters"} 2.0' in samples
    assert 'conch_gateway_errors_total{code="invalid_value"} 1.0' in samples
    assert 'conch_gateway_request_seconds_count{model="letters",route="/v1/embeddings"} 1.0' in samples
    for phase in ("tokenize", "queue", "inference"):
        assert f'conch_gateway_phase_seconds_count{{model="letters",phase="{phase}"}} 1.0' in samples
    for what in ("requests", "texts", "tokens"):
        assert f"conch_gateway_in_flight_{what} 0.0" in samples


async def test_tokens_and_texts_are_those_of_answered_requests_as_their_descriptions_say(
    http: httpx.AsyncClient, client: StandIn
) -> None:
    client.busy = NotComputedError("the model refused text(s) [1]", [1])
    await http.post("/v1/embeddings", json={"input": ["ab", "c"]})

    samples = (await http.get("/metrics")).text.splitlines()

    for what in ("tokens", "texts"):
        assert not any(sample.startswith(f"conch_gateway_{what}_total{{") for sample in samples)
        told = next(sample for sample in samples if sample.startswith(f"# HELP conch_gateway_{what}_total "))
        assert "answered requests" in told


async def test_metrics_count_what_lost_tokens(every_kind: StandIn, http: httpx.AsyncClient) -> None:
    await http.post("/v1/embeddings", json={"input": ["a" * 15, "b", "c" * 20]})
    await http.post("/v1/embeddings", json={"input": ["a" * 15, "b"], "vector_type": "sparse"})

    samples = (await http.get("/metrics")).text.splitlines()

    assert 'conch_gateway_truncated_texts_total{model="letters"} 2.0' in samples
    assert 'conch_gateway_truncated_texts_total{model="letters-sparse"} 1.0' in samples


async def test_metrics_count_rows_that_a_model_answered_with_nan(http: httpx.AsyncClient, client: StandIn) -> None:
    await http.post("/v1/embeddings", json={"input": "a"})
    before = (await http.get("/metrics")).text.splitlines()
    client.busy = NotComputedError("the model refused text(s) [0, 2]", [0, 2])
    refused = await http.post("/v1/embeddings", json={"input": [[1], [2], [3]]})
    after = (await http.get("/metrics")).text.splitlines()

    assert refused.status_code == 400
    # It is there before the first NaN: a rate misses the step from nothing to a counter's first value.
    assert 'conch_gateway_nan_rows_total{model="letters"} 0.0' in before
    assert 'conch_gateway_nan_rows_total{model="letters"} 2.0' in after


async def test_metrics_have_every_error_from_the_start_and_the_processes_own(http: httpx.AsyncClient) -> None:
    exposition = (await http.get("/metrics")).text

    for rule in RULES.values():
        assert f'conch_gateway_errors_total{{code="{rule.code}"}} 0.0' in exposition
    assert "process_resident_memory_bytes " in exposition


async def test_labels_never_hold_what_a_user_sent(http: httpx.AsyncClient) -> None:
    await http.post("/v1/embeddings", json={"input": "a", "model": "sent-by-user"})
    await http.get("/v1/models/sent-by-user")
    await http.get("/sent-by-user")
    await http.request("SENTBYUSER", "/v1/embeddings")

    exposition = (await http.get("/metrics")).text

    assert not re.search("sent-?by-?user", exposition, re.IGNORECASE)
    assert 'route="unmatched"' in exposition
