"""HTTP/1.1 as the gateway speaks it, over sockets and under the event loop of `conch serve`."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
import zlib
from typing import TYPE_CHECKING

import psutil
import pytest
from conch_gateway.middleware.protocol import Pace, Protocol

from tests.listening import listening
from tests.raw_http import H2C, Answer, Connection, chunked, request
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


URL = "/v1/embeddings"
LIMIT = 100_000
GOOD = json.dumps({"input": "a cat"}).encode()
CHUNKED = "Transfer-Encoding: chunked"
WHO = "x-request-id: {}".format


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening(max_body_bytes=LIMIT) as port:
        yield port


@pytest.fixture
def connection(port: int) -> Iterator[Connection]:
    with Connection(port) as opened:
        yield opened


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """For connections made from now on."""
    monkeypatch.setattr(Protocol, "pace", Pace(patience_s=0.3, slowest=10_000, linger_s=0.3))


def read(connection: Connection) -> Answer:
    answer = connection.answer()
    assert answer is not None, "the connection was closed"
    return answer


def code_of(answer: Answer) -> str:
    code: str = json.loads(answer.body)["error"]["code"]
    return code


class TestOffersToUpgrade:
    OFFERS = (
        pytest.param(H2C, id="h2c, as Java offers it"),
        pytest.param(("Connection: Upgrade", "Upgrade: TLS/1.0"), id="TLS"),
        pytest.param(
            ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"), id="websocket"
        ),
        pytest.param(("connection: keep-alive", "connection: upgrade", "upgrade: a/1, b"), id="several"),
    )

    @pytest.mark.parametrize("apart", [False, True], ids=["one segment", "several segments"])
    @pytest.mark.parametrize("offer", OFFERS)
    @pytest.mark.parametrize("framing", ["length", "chunks"])
    def test_they_are_ignored_and_the_connection_stays(
        self, connection: Connection, offer: tuple[str, ...], apart: bool, framing: str
    ) -> None:
        head = request(URL, b"", *offer, f"Content-Length: {len(GOOD)}", framed=False)
        body = GOOD
        if framing == "chunks":
            head, body = request(URL, b"", *offer, CHUNKED, framed=False), chunked(GOOD)
        for part in [head[:30], head[30:], body[:9], body[9:]] if apart else [head + body]:
            connection.send(part)
            time.sleep(0.02)

        assert read(connection).status == 200
        connection.send(request(URL, GOOD, WHO("later")))
        assert read(connection).headers["x-request-id"] == "later"

    def test_a_body_is_never_another_request(self, connection: Connection) -> None:
        inner = request("/v1/models", b"", WHO("inner"), method="GET")
        connection.send(request(URL, b"", *H2C, WHO("outer"), f"Content-Length: {len(inner)}", framed=False))
        time.sleep(0.05)
        connection.send(inner + request("/health/live", b"", WHO("next"), "Connection: close", method="GET"))

        assert [answer.headers["x-request-id"] for answer in connection.answers()] == ["outer", "next"]

    def test_many_in_one_segment_are_answered_in_order(self, connection: Connection) -> None:
        connection.send(b"".join(request(URL, GOOD, *H2C, WHO(f"r{number}")) for number in range(50)))

        assert [read(connection).headers["x-request-id"] for _ in range(50)] == [f"r{number}" for number in range(50)]


class TestWhatIsNotHttp:
    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="TLS"),
            pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP/2"),
            pytest.param(request(URL, GOOD, version="2.0"), 400, id="a version that there is not"),
            pytest.param(b"GET /health/live\r\n\r\n", 400, id="HTTP/0.9"),
            pytest.param(b"GET /health/live HTTP/1.1\r\n\r\n", 400, id="no host"),
            pytest.param(request(URL, GOOD, "Host: other"), 400, id="two hosts"),
            pytest.param(request(URL, GOOD).replace(b"\r\n", b"\n"), 400, id="bare line feeds"),
            pytest.param(request(URL, GOOD, "X: a\r\n b"), 400, id="a folded header"),
            pytest.param(request(URL, GOOD, "X : a"), 400, id="a blank before the colon"),
            pytest.param(request(URL, GOOD, "X: a\0b"), 400, id="a NUL"),
            pytest.param(request("/caf\xe9", GOOD), 400, id="a target that is not ASCII"),
            pytest.param(request("http://conch", GOOD), 400, id="no path"),
            pytest.param(request("conch:443", method="CONNECT"), 400, id="CONNECT"),
            pytest.param(request(URL, GOOD, f"Content-Length: {len(GOOD)}"), 400, id="two lengths"),
            pytest.param(request(URL, GOOD, "Content-Length: +5", framed=False), 400, id="a signed length"),
            pytest.param(request(URL, GOOD, CHUNKED), 400, id="a length and chunks"),
            pytest.param(request(URL, chunked(GOOD), "Transfer-Encoding: gzip, chunked", framed=False), 400, id="gzip"),
            pytest.param(
                request(URL, chunked(GOOD), CHUNKED, framed=False, version="1.0"),
                400,
                id="chunks in HTTP/1.0",
            ),
            pytest.param(
                request(URL, b"5\nhello\r\n0\r\n\r\n", CHUNKED, framed=False),
                400,
                id="a bare chunk",
            ),
            pytest.param(
                request(URL, b"1" * 17 + b"\r\n", CHUNKED, framed=False),
                400,
                id="a chunk too long",
            ),
            pytest.param(request("/" + "a" * 70_000, GOOD), 431, id="a long target"),
            pytest.param(request(URL, GOOD, *(f"x-{n}: {'a' * 100}" for n in range(700))), 431, id="many headers"),
        ],
    )
    def test_it_gets_one_answer_that_says_why_and_the_connection_is_closed(
        self, connection: Connection, sent: bytes, status: int
    ) -> None:
        connection.send(sent + request("/health/live", b"", method="GET"))

        answers = connection.answers()
        assert [(answer.status, answer.headers["connection"]) for answer in answers] == [(status, "close")]
        assert code_of(answers[0]) == "malformed_request"

    def test_a_head_without_end_is_refused_before_it_is_kept(self, connection: Connection) -> None:
        connection.send(request(URL, b"", "X: " + "a" * 2_000_000, framed=False)[:-4])

        assert [answer.status for answer in connection.answers()] == [431]

    def test_what_came_before_is_answered_first(self, connection: Connection) -> None:
        connection.send(request(URL, GOOD, WHO("one")) + request(URL, GOOD, WHO("two")) + b"nonsense\r\n\r\n")

        assert [answer.headers["x-request-id"] for answer in connection.answers()] == ["one", "two"]

    def test_trailers_are_no_headers(self, connection: Connection) -> None:
        body = chunked(GOOD)[:-2] + b"x-request-id: trailer\r\nContent-Encoding: br\r\n\r\n"
        connection.send(request(URL, body, CHUNKED, WHO("head"), framed=False))

        answer = read(connection)
        assert (answer.status, answer.headers["x-request-id"]) == (200, "head")

    @pytest.mark.parametrize(
        "frame",
        [
            pytest.param((b"1;" + b"a" * 10_000 + b"\r\n \r\n") * 200, id="extensions"),
            pytest.param(b"0\r\nX: " + b"a" * 2_000_000, id="trailers"),
        ],
    )
    def test_chunks_that_are_mostly_frame_are_refused(self, connection: Connection, frame: bytes) -> None:
        connection.send(request(URL, frame, CHUNKED, framed=False))

        assert [answer.status for answer in connection.answers()] == [400]

    def test_requests_sent_ahead_have_a_limit(self, connection: Connection) -> None:
        connection.send(b"".join(request(URL, GOOD) for _ in range(500)))

        answers = connection.answers()
        assert {answer.status for answer in answers} == {200}
        assert 100 <= len(answers) < 500


class TestSlowSenders:
    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(request(URL, GOOD)[:20], id="in the head"),
            pytest.param(request(URL, GOOD)[:-2], id="in the body"),
            pytest.param(request(URL, GOOD) * 2 + request(URL, GOOD)[:-2], id="in a later request"),
        ],
    )
    @pytest.mark.usefixtures("hurried")
    def test_they_are_told_and_disconnected(self, port: int, sent: bytes) -> None:
        with Connection(port) as connection:
            connection.send(sent)
            *good, last = connection.answers()

        assert (last.status, code_of(last)) == (408, "malformed_request")
        assert {answer.status for answer in good} <= {200}

    @pytest.mark.usefixtures("hurried")
    def test_a_connection_that_says_nothing_is_closed(self, port: int) -> None:
        with Connection(port) as connection:
            assert connection.answer() is None

    @pytest.mark.usefixtures("hurried")
    def test_a_trickle_is_too_slow(self, port: int) -> None:
        with Connection(port) as connection:
            connection.send(request(URL, b"", f"Content-Length: {LIMIT}", framed=False))
            for _ in range(200):
                with contextlib.suppress(ConnectionError):  # it has been answered and closed by now
                    connection.send(b" ")
                time.sleep(0.005)

            assert read(connection).status == 408

    def test_who_sends_steadily_may_take_longer(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Protocol, "pace", Pace(patience_s=1.0, slowest=100))
        body = GOOD[:-1] + b" " * 20_000 + b"}"
        with Connection(port) as connection:
            connection.send(request(URL, b"", f"Content-Length: {len(body)}", framed=False))
            for at in range(0, len(body), 2_000):
                connection.send(body[at : at + 2_000])
                time.sleep(0.12)

            assert read(connection).status == 200

    @pytest.mark.usefixtures("hurried")
    def test_who_does_not_read_is_disconnected(self, port: int) -> None:
        with Connection(port) as connection:
            mine = connection.socket.getsockname()
            connection.send(request(URL, json.dumps({"input": ["a"] * 2_000}).encode()) * 90)

            until(lambda: all(open_.raddr != mine for open_ in psutil.Process().net_connections("tcp4")))


class TestAnswersBeforeTheBodyIsRead:
    @pytest.mark.parametrize("keep", [True, False], ids=["keep-alive", "close"])
    @pytest.mark.parametrize(("url", "status"), [(URL, 413), ("/nowhere", 404)])
    def test_who_writes_everything_first_gets_them(
        self, connection: Connection, url: str, status: int, keep: bool
    ) -> None:
        body = b" " * 10_000_000
        connection.send(request(url, body, *([] if keep else ["Connection: close"])))

        assert read(connection).status == status
        if keep:
            connection.send(request(URL, GOOD))
            assert read(connection).status == 200
        else:
            assert connection.answer() is None

    def test_chunks_without_end_are_drained_for_a_while(self, connection: Connection) -> None:
        connection.send(request(URL, chunked(b" " * 10_000_000, 100_000), CHUNKED, framed=False))

        answer = read(connection)
        assert (answer.status, answer.headers["connection"]) == (413, "close")

    def test_who_expects_to_be_asked_sends_no_body_for_nothing(self, connection: Connection) -> None:
        expects = (f"Content-Length: {LIMIT + 1}", "Expect: 100-continue")
        connection.send(request(URL, b"", *expects, framed=False))

        answer = read(connection)
        assert (answer.status, answer.headers["connection"]) == (413, "close")

    def test_who_expects_to_be_asked_is_asked(self, connection: Connection) -> None:
        connection.send(request(URL, b"", f"Content-Length: {len(GOOD)}", "Expect: 100-continue", framed=False))
        assert connection.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(GOOD)

        assert read(connection).status == 200


class TestContentCodings:
    @pytest.mark.parametrize(
        ("coding", "body"),
        [("gzip", gzip.compress(GOOD)), ("X-GZIP", gzip.compress(GOOD)), ("deflate", zlib.compress(GOOD))],
        ids=["gzip", "x-gzip", "deflate"],
    )
    def test_a_compressed_body_is_read(self, connection: Connection, coding: str, body: bytes) -> None:
        connection.send(request(URL, GOOD) + request(URL, body, f"Content-Encoding: {coding}"))

        plain, compressed = read(connection), read(connection)
        assert (compressed.status, compressed.body) == (200, plain.body)

    @pytest.mark.parametrize("framing", ["length", "chunks"])
    def test_it_is_inflated_no_further_than_the_limit(self, connection: Connection, framing: str) -> None:
        bomb = gzip.compress(b" " * 80_000_000)
        assert len(bomb) < LIMIT
        if framing == "chunks":
            bomb = chunked(bomb, 9_000)
        codings = ["Content-Encoding: gzip", *([CHUNKED] if framing == "chunks" else [])]
        connection.send(request(URL, bomb, *codings, framed=framing == "length"))

        answer = read(connection)
        assert (answer.status, code_of(answer)) == (413, "body_too_large")

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(GOOD, id="not compressed"),
            pytest.param(gzip.compress(GOOD)[:-9], id="cut off"),
            pytest.param(gzip.compress(GOOD) + b"more", id="something behind it"),
            pytest.param(b"", id="nothing"),
        ],
    )
    def test_what_is_not_what_it_says_gets_400(self, connection: Connection, body: bytes) -> None:
        connection.send(request(URL, body, "Content-Encoding: gzip"))

        answer = read(connection)
        assert (answer.status, code_of(answer)) == (400, "malformed_json")
        assert b"gzip" in answer.body

    @pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress"])
    def test_another_coding_gets_415_and_the_ones_there_are(self, connection: Connection, coding: str) -> None:
        connection.send(request(URL, GOOD, f"Content-Encoding: {coding}"))

        answer = read(connection)
        assert (answer.status, code_of(answer)) == (415, "unsupported_content_encoding")
        assert answer.headers["accept-encoding"] == "gzip, deflate, identity"


class TestTargets:
    @pytest.mark.parametrize(
        "target",
        ["/v1/embeddings/", "/v1//embeddings", "//v1/embeddings", "/v1/embeddings//?a=b", "http://conch/v1/embeddings"],
    )
    def test_slashes_too_many_lead_to_the_same_resource(self, connection: Connection, target: str) -> None:
        connection.send(request(target, GOOD))

        assert read(connection).status == 200

    @pytest.mark.parametrize("target", ["//admin/models", "/admin//models", "/admin/models/", "/%61dmin/models"])
    def test_they_open_nothing(self, connection: Connection, target: str) -> None:
        connection.send(request(target, b"", method="GET"))

        assert read(connection).status == 403

    @pytest.mark.parametrize("target", ["/", "/docs", "/health", "/health/live", "/v1/models", "/api/tags", "/metrics"])
    def test_head_is_get_without_the_content(self, connection: Connection, target: str) -> None:
        connection.send(request(target, method="HEAD"))
        head = connection.answer(head=True)
        connection.send(request(target, method="GET"))
        got = read(connection)

        assert head is not None
        assert (head.status, head.headers.get("content-type")) == (got.status, got.headers.get("content-type"))
        assert target == "/metrics" or head.headers["content-length"] == got.headers["content-length"]

    def test_head_of_what_is_only_posted_is_refused(self, connection: Connection) -> None:
        connection.send(request(URL, method="HEAD"))
        answer = connection.answer(head=True)

        assert answer is not None
        assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"\xef\xbb\xbf" + GOOD, 200, id="a byte order mark"),
        pytest.param(GOOD.decode().encode("utf-16"), 400, id="UTF-16"),
        pytest.param('{"input": "caf\xe9"}'.encode("latin-1"), 400, id="Latin-1"),
    ],
)
def test_json_is_in_utf_8(connection: Connection, body: bytes, status: int) -> None:
    connection.send(request(URL, body))

    answer = read(connection)
    assert answer.status == status
    assert status == 200 or b"not in UTF-8" in answer.body


def test_http_1_0_is_answered_and_closed(connection: Connection) -> None:
    connection.send(request(URL, GOOD, "Connection: keep-alive", version="1.0"))

    assert [answer.status for answer in connection.answers()] == [200]
