"""When a connection without a request is closed, and what is no such connection."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from conch_gateway import server
from conch_gateway.middleware.protocol import Pace, Protocol

from tests.listening import listening
from tests.raw_http import Connection, request
from tests.unit.gateway.test_gateway_http import GOOD, URL, read

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(server, "_KEEP_ALIVE_S", 0.3)
    with listening() as port:
        yield port


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "a blank line"])
def test_they_are_closed_whatever_comes_that_is_no_request(impatient: int, sent: bytes) -> None:
    with Connection(impatient) as connection:
        connection.send(request(URL, GOOD))
        assert read(connection).status == 200
        connection.send(sent)
        assert connection.answer() is None


def test_one_is_not_idle_while_a_request_is_read(impatient: int) -> None:
    later = request(URL, GOOD)
    with Connection(impatient) as connection:
        connection.send(request(URL, GOOD) + later[:20])
        assert read(connection).status == 200
        for part in (later[20:-9], later[-9:]):
            time.sleep(0.6)
            connection.send(part)
        assert read(connection).status == 200


@pytest.mark.parametrize("headers", [(), ("Connection: close",)], ids=["keep-alive", "close"])
def test_one_is_not_idle_while_a_long_answer_is_read(
    impatient: int, monkeypatch: pytest.MonkeyPatch, headers: tuple[str, ...]
) -> None:
    monkeypatch.setattr(Protocol, "pace", Pace(linger_s=0.3))
    body = json.dumps({"query": "a", "documents": ["a" * 7_000_000], "return_documents": True}).encode()
    with Connection(impatient, receive_bytes=2**16) as connection:  # most of the answer waits in the gateway
        connection.send(request("/v1/rerank", body, *headers))
        time.sleep(3)
        answer = read(connection)
        assert (answer.status, len(answer.body)) == (200, int(answer.headers["content-length"]))
