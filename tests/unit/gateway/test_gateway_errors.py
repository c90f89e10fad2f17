from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, cast

import conch_client as cc
import httpx
import pytest
from conch_gateway import GatewayError, GatewaySettings, create_app
from conch_gateway.api.route import Route, Router
from conch_gateway.errors import (
    RULES,
    KeysError,
    ListenError,
    Problem,
    RequestError,
    RetryLaterError,
    SettingError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, MutableMapping

    from starlette.requests import Request

    from tests.unit.gateway.conftest import Serve, StandIn

URL = "/v1/embeddings"
GOOD = {"input": "ab"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"input": "a"', id="cut off"),
        pytest.param(b'{"input": "a", "dimensions": NaN}', id="NaN"),
        pytest.param(b'{"input": "a", "dimensions": 1e999}', id="a number beyond float64"),
        pytest.param(b'{"input": "\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"input": "\xff\xfe"}', id="not UTF-8"),
        pytest.param(b'{"input": "a\0b"}', id="raw NUL byte"),
        pytest.param(b'{"input": ' + b"[" * 2_000 + b"]" * 2_000 + b"}", id="deeply nested"),
        pytest.param(b"input=a", id="a form"),
    ],
)
async def test_what_is_not_json_gets_400(http: httpx.AsyncClient, body: bytes) -> None:
    response = await http.post(URL, content=body)

    assert (response.status_code, response.json()["error"]["code"]) == (400, "malformed_json")


PADDING = b" " * 2**19  # large bodies are read in another thread


@pytest.mark.parametrize("padding", [b"", PADDING], ids=["small", "large"])
@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" * 40, b"-" + b"9" * 100_000, b"1e308", b"1" * 20])
@pytest.mark.parametrize("field", [b'"input": [%s]', b'"input": [[%s]]', b'"input": "a", "dimensions": %s'])
async def test_a_number_that_no_number_can_hold_is_refused(
    http: httpx.AsyncClient, padding: bytes, number: bytes, field: bytes
) -> None:
    response = await http.post(URL, content=padding + b"{" + field % number + b"}")

    assert response.status_code in {400, 422}


async def test_a_large_body_means_what_a_small_one_does(http: httpx.AsyncClient) -> None:
    body = '{"input": ["\\u00fc\\ud83d\\ude00 日本 \\"x\\"", "a"], "dimensions": null}'.encode()
    small, large = [await http.post(URL, content=padding + body) for padding in (b"", PADDING)]

    assert small.status_code == large.status_code == 200
    assert small.json() == large.json()


@pytest.mark.parametrize("body", ["[]", '"a"', "7", "null", "true"])
async def test_json_that_is_no_object_gets_422(http: httpx.AsyncClient, body: str) -> None:
    response = await http.post(URL, content=body)

    assert (response.status_code, response.json()["error"]["code"]) == (422, "wrong_type")


@pytest.mark.parametrize(
    ("failure", "status", "retry_after"),
    [
        pytest.param(cc.InvalidInputError("texts[0] is odd"), 400, None, id="input the model refuses"),
        pytest.param(cc.ModelNotFoundError("gone"), 404, None, id="model gone"),
        pytest.param(cc.OverloadedError("queue"), 429, "1", id="queue full"),
        pytest.param(cc.UnavailableError("10.0.0.7:8001"), 503, "2", id="Triton is away"),
        pytest.param(cc.DeadlineExceededError("late"), 504, None, id="deadline"),
        pytest.param(cc.ServerError("secret"), 500, None, id="Triton failed"),
        pytest.param(ZeroDivisionError("secret"), 500, None, id="a bug"),
    ],
)
async def test_a_failure_below_gets_its_status_and_shows_nothing_inside(
    http: httpx.AsyncClient, client: StandIn, failure: Exception, status: int, retry_after: str | None
) -> None:
    client.busy = failure

    response = await http.post(URL, json=GOOD)

    assert (response.status_code, response.headers.get("retry-after")) == (status, retry_after)
    assert response.json()["error"]["message"]
    assert "secret" not in response.text
    assert "10.0.0.7" not in response.text


async def test_a_failure_of_the_server_leaves_one_structured_line(
    http: httpx.AsyncClient, client: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    client.busy = ZeroDivisionError("the cause")

    with caplog.at_level(logging.INFO, logger="conch_gateway"):
        await http.post(URL, json=GOOD, headers={"x-request-id": "abc-1"})
        await http.post(URL, json={"input": ""})

    (record,) = caplog.records
    line = json.loads(record.message)
    assert (line["request_id"], line["status"], line["path"]) == ("abc-1", 500, URL)
    assert line["error"] == "ZeroDivisionError: the cause"
    assert record.exc_info is not None


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("GET", "/nowhere", 404, "not_found", id="no such path"),
        pytest.param("GET", URL, 405, "method_not_allowed", id="wrong method"),
        pytest.param("DELETE", "/v1/models", 405, "method_not_allowed", id="another wrong method"),
    ],
)
async def test_routing_errors_have_the_same_envelope(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await http.request(method, path)

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("path", "keys", "words"),
    [
        pytest.param("/api/chat", {"error"}, "error", id="Ollama"),
        pytest.param("/v2/chat", {"message"}, "message", id="Cohere"),
    ],
)
async def test_where_there_is_nothing_the_prefix_says_whose_dialect_it_is(
    http: httpx.AsyncClient, path: str, keys: set[str], words: str
) -> None:
    response = await http.post(path, json={})

    assert (response.status_code, set(response.json())) == (404, keys)
    assert "nothing at this path" in response.json()[words]


@pytest.mark.parametrize(("path", "allowed"), [("/", "GET, HEAD, POST"), (URL, "POST"), ("/openapi.json", "GET, HEAD")])
async def test_a_wrong_method_is_told_all_that_the_path_takes(http: httpx.AsyncClient, path: str, allowed: str) -> None:
    assert (await http.request("PUT", path)).headers["allow"] == allowed


async def stream(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 100):
        yield b" " * 100


@pytest.mark.parametrize("streamed", [False, True], ids=["declared", "without Content-Length"])
async def test_a_body_beyond_the_limit_gets_413(http_with: Serve, streamed: bool) -> None:
    async with http_with(max_body_bytes=1000) as http:
        response = await http.post(URL, content=stream(2000) if streamed else b" " * 2000)

    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")


async def test_a_streamed_body_within_the_limit_is_read_whole(http_with: Serve) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"inp'
        yield b'ut": "ab"}'

    async with http_with(max_body_bytes=1000) as http:
        assert (await http.post(URL, content=body())).status_code == 200


async def test_a_caller_who_hangs_up_while_sending_is_no_failure_of_the_server(
    client: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(GatewaySettings(), cast("cc.AsyncClient", client))
    scope = {"type": "http", "method": "POST", "path": URL, "headers": [], "query_string": b""}
    statuses = []

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        statuses.append(message.get("status"))

    await app(scope, receive, send)

    assert statuses[0] == 499
    assert not caplog.records


@pytest.mark.parametrize(
    "limit",
    [{"max_in_flight_requests": 1}, {"max_in_flight_texts": 2, "max_inputs": 2}, {"max_in_flight_tokens": 5}],
    ids=["requests", "texts", "tokens"],
)
async def test_a_full_gateway_answers_429_at_once_and_recovers(
    http_with: Serve, client: StandIn, limit: dict[str, int]
) -> None:
    client.gate = asyncio.Event()
    two = {"input": ["a", "b"]}

    async with http_with(**limit) as http:
        running = asyncio.create_task(http.post(URL, json=two))
        await client.entered.wait()
        refused = await http.post(URL, json=two)
        client.gate.set()

        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.headers["retry-after-ms"] == "1000"
        assert (await running).status_code == 200
        assert (await http.post(URL, json=two)).status_code == 200


async def test_requests_at_background_priority_take_a_part_of_the_room_and_others_all_of_it(
    http_with: Serve, client: StandIn
) -> None:
    client.gate = asyncio.Event()
    nobody_waits = {"x-conch-priority": "background"}
    async with http_with(max_in_flight_requests=4) as http:
        first = asyncio.create_task(http.post(URL, json=GOOD, headers=nobody_waits))
        await client.entered.wait()
        refused = await http.post(URL, json=GOOD, headers=nobody_waits)
        other = asyncio.create_task(http.post(URL, json=GOOD))
        client.gate.set()
        statuses = [refused.status_code, (await first).status_code, (await other).status_code]

    assert statuses == [429, 200, 200]


@pytest.mark.parametrize(
    ("url", "body"),
    [pytest.param(URL, GOOD, id="texts"), pytest.param("/rerank", {"query": "q", "documents": ["d"]}, id="documents")],
)
async def test_waiting_for_a_turn_counts_as_time_taken(
    http_with: Serve, client: StandIn, url: str, body: dict[str, Any]
) -> None:
    client.gate = asyncio.Event()
    async with http_with(timeout_s=1, triton_calls=1) as http:
        answers = await asyncio.gather(*(http.post(url, json=body) for _ in range(3)))
        client.gate.set()
        later = await http.post(url, json=body)

    assert [answer.status_code for answer in answers] == [504] * 3
    assert all("CONCH_TIMEOUT_S" in answer.text for answer in answers)
    assert later.status_code == 200


@pytest.mark.parametrize("header", ["x-request-timeout-s", "x-stainless-read-timeout", "x-stainless-timeout"])
async def test_a_request_ends_when_its_caller_says_that_he_waits_no_longer(
    http: httpx.AsyncClient, client: StandIn, header: str
) -> None:
    client.gate = asyncio.Event()
    answer = await http.post(URL, json=GOOD, headers={header: "0.1"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert "0.1 s that its headers say" in answer.text


@pytest.mark.parametrize("stated", ["0", "-1", "soon", "nan", "1e9", ""])
async def test_nonsense_about_how_long_a_caller_waits_is_ignored(http: httpx.AsyncClient, stated: str) -> None:
    answer = await http.post(URL, json=GOOD, headers={"x-stainless-read-timeout": stated})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param("job-7.a:b_c", True, id="sane"),
        pytest.param("", False, id="empty"),
        pytest.param("x" * 129, False, id="too long"),
        pytest.param('a"b', False, id="quotes"),
    ],
)
async def test_a_sane_request_id_is_taken_over(http: httpx.AsyncClient, given: str, kept: bool) -> None:
    response = await http.get("/health/live", headers={"x-request-id": given})

    assert (response.headers["x-request-id"] == given) is kept
    assert response.headers["x-request-id"]


async def test_errors_too_carry_the_request_id_and_timing(http: httpx.AsyncClient) -> None:
    answers = [await http.post(URL, json=GOOD), await http.post(URL, json={}), await http.get("/nowhere")]

    assert len({answer.headers["x-request-id"] for answer in answers}) == 3
    assert all("total;dur=" in answer.headers["server-timing"] for answer in answers)
    assert answers[0].headers["server-timing"].startswith("tokenize;dur=")


async def test_a_dialect_answers_every_error_in_its_own_words(client: StandIn) -> None:
    class FlatRoute(Route):
        @classmethod
        def error_body(cls, problem: Problem) -> Mapping[str, Any]:
            return {"error": problem.message, "error_type": problem.code}

    routes = Router(FlatRoute)

    @routes.route("/flat", method="POST")
    async def flat(request: Request) -> Any:
        await request.body()
        raise ZeroDivisionError

    app = create_app(GatewaySettings(max_body_bytes=10), cast("cc.AsyncClient", client))
    app.router.routes += routes.routes
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        kinds = [
            (await http.post("/flat", content=b" " * 11)).json()["error_type"],
            (await http.post("/flat")).json()["error_type"],
            (await http.get("/flat")).json()["error_type"],
        ]

    assert kinds == ["body_too_large", "internal_error", "method_not_allowed"]


def test_every_error_that_can_reach_the_wire_has_its_rule() -> None:
    # Roots, and what ends the process before.
    without = {RequestError, RetryLaterError, ListenError, KeysError, SettingError}
    own = {*GatewayError.__subclasses__(), *RequestError.__subclasses__(), *RetryLaterError.__subclasses__()}
    clients = {getattr(cc, name) for name in cc.__all__ if name.endswith("Error")} - {cc.ConchError}

    assert (own | clients) - without <= set(RULES)
