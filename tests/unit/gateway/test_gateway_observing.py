"""What can be seen of a request from outside: headers, the access log, spans, and that who hangs up is noticed."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from conch_client import AsyncClient
from conch_client.testing import FakeServer
from conch_gateway import Gateway, GatewaySettings, create_app
from conch_gateway.middleware import requests as _middleware
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc

from tests.unit.gateway.conftest import model_info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.gateway.conftest import Serve, StandIn

URL = "/v1/embeddings"
GOOD = {"input": "ab"}
TIMES = ("x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time")


async def test_an_answer_says_what_it_took_as_text_embeddings_inference_does(http: httpx.AsyncClient) -> None:
    response = await http.post(URL, json=GOOD)

    assert all(response.headers[name].isdigit() for name in TIMES)
    assert response.headers["x-compute-tokens"] == "4"
    assert [phase.split(";")[0] for phase in response.headers["server-timing"].split(", ")] == [
        "tokenize",
        "queue",
        "inference",
        "total",
    ]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/score", {"text_1": ["a", "b", "a"], "text_2": ["c", "d", "e"]}, id="score"),
        pytest.param("/predict", {"inputs": [["a", "c"], ["b", "d"], ["a", "e"]]}, id="predict"),
    ],
)
async def test_scoring_pairs_is_counted_and_timed_as_one_request(
    http: httpx.AsyncClient, client: StandIn, path: str, body: dict[str, Any]
) -> None:
    response = await http.post(path, json=body)
    samples = (await http.get("/metrics")).text.splitlines()

    assert [name for name, _ in client.calls] == ["rerank"] * 2  # one for each query
    assert [phase.split(";")[0] for phase in response.headers["server-timing"].split(", ")] == [
        "queue",
        "inference",
        "total",
    ]
    assert 'conch_gateway_texts_total{model="overlap"} 3.0' in samples
    assert f'conch_gateway_requests_total{{model="overlap",route="{path}",status="200"}} 1.0' in samples
    assert "conch_gateway_in_flight_tokens 0.0" in samples


async def test_what_asks_no_model_takes_nothing(http: httpx.AsyncClient) -> None:
    response = await http.get("/health/live")

    assert not {"x-compute-tokens", *TIMES} & set(response.headers)


@pytest.mark.parametrize("path", [URL, "/rerank", "/embed_sparse"])
async def test_triton_is_told_the_id_of_the_request(http: httpx.AsyncClient, client: StandIn, path: str) -> None:
    client.served.append(model_info("terms", "sparse"))
    await http.post(path, json={**GOOD, "query": "q", "documents": ["d"], "inputs": "a"}, headers={"x-request-id": "7"})

    assert client.calls[-1][1]["request_id"] == "7"


async def test_the_access_log_has_a_line_of_json_for_each_request_and_no_text(
    http_with: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="conch_gateway.access"):
        async with http_with(access_log=True, api_keys="alice:opensesame") as http:
            headers = {"authorization": "Bearer opensesame", "x-request-id": "7"}
            await http.post(URL, json={"input": "confidential"}, headers=headers)
            await http.post(URL, json=GOOD, headers={"authorization": "Bearer sesame"})

    first, second = (json.loads(record.message) for record in caplog.records)
    assert {name: first[name] for name in ("request_id", "route", "status", "caller", "model", "texts", "tokens")} == {
        "request_id": "7",
        "route": URL,
        "status": 200,
        "caller": "alice",
        "model": "letters",
        "texts": 1,
        "tokens": 14,
    }
    assert first["total_ms"] >= first["queue_ms"] >= 0
    assert (second["status"], second["error"], "model" in second) == (401, "invalid_api_key", False)
    assert not [word for word in ("confidential", "sesame") if word in caplog.text]


async def test_without_the_setting_there_is_no_access_log(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await http.post(URL, json=GOOD)

    assert not [record for record in caplog.records if record.name.startswith("conch_gateway")]


async def test_who_hangs_up_is_not_computed_for(
    client: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_middleware, "_PATIENCE_S", 0.0)
    client.gate = asyncio.Event()
    settings = GatewaySettings(port=0, triton_calls=1)
    async with Gateway(settings, client=client) as gateway, httpx.AsyncClient() as http:
        first = asyncio.create_task(http.post(gateway.url + URL, json={"input": "first"}))
        await client.entered.wait()
        impatient = asyncio.create_task(http.post(gateway.url + URL, json={"input": "impatient"}))
        await until(http, gateway, "conch_gateway_in_flight_requests 2.0")
        impatient.cancel()
        await until(http, gateway, f'conch_gateway_requests_total{{model="letters",route="{URL}",status="499"}} 1.0')
        client.gate.set()
        assert (await first).status_code == 200

    assert len(client.embedded) == 1
    assert not caplog.records


async def until(http: httpx.AsyncClient, gateway: Gateway, sample: str) -> None:
    while sample not in (await http.get(f"{gateway.url}/metrics")).text.splitlines():
        pass


class Collector(otlp_grpc.TraceServiceServicer):
    """An OpenTelemetry collector that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: dict[str, Any] = {}
        self.server = grpc.server(ThreadPoolExecutor(1))
        otlp_grpc.add_TraceServiceServicer_to_server(self, self.server)  # type: ignore[no-untyped-call]
        self.url = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def Export(self, request: Any, _: grpc.ServicerContext) -> Any:  # noqa: N802
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans |= {span.name: span for span in scope.spans}
        return otlp.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.stop(0)
    GrpcAioInstrumentorClient().uninstrument()  # type: ignore[no-untyped-call]


async def test_spans_lead_from_the_caller_through_the_gateway_to_triton(collector: Collector) -> None:
    trace_id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    with FakeServer() as triton:
        settings, client = GatewaySettings(otlp_endpoint=collector.url, triton_url=triton.url), AsyncClient(triton.url)
        app = create_app(settings, client)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://g") as http,
        ):
            await client.models()  # as the canary, which `conch serve` has, before the first request comes
            headers = {"traceparent": f"00-{trace_id}-{parent}-01", "x-request-id": "7"}
            assert (await http.post(URL, json=GOOD, headers=headers)).status_code == 200
    await asyncio.to_thread(app.state.spans.force_flush)

    served, called = collector.spans[f"POST {URL}"], collector.spans["/inference.GRPCInferenceService/ModelInfer"]
    assert (served.trace_id.hex(), served.parent_span_id.hex()) == (trace_id, parent)
    assert (called.trace_id, called.parent_span_id) == (served.trace_id, served.span_id)
    facts = {fact.key: fact.value for fact in served.attributes}
    assert (facts["conch.model"].string_value, facts["conch.request_id"].string_value) == ("fake", "7")
    assert facts["http.response.status_code"].int_value == 200


async def test_without_an_endpoint_nothing_is_imported_for_spans() -> None:
    code = """
import sys
from conch_client import AsyncClient
from conch_gateway import GatewaySettings, create_app
create_app(GatewaySettings(), AsyncClient())
print(*sys.modules)
"""
    run = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    modules = (await run.communicate())[0].decode().split()

    assert "conch_gateway.app" in modules
    assert not [name for name in modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
