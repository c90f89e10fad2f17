"""Hostile HTTP: requests that no client should send, in endless variety; the same seed gives the same ones.

Bodies hold a whole request with the id `INNER`. Whatever a server makes of the framing, that must never be executed.
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Literal, NamedTuple

from tests.raw_http import H2C, chunked, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

INNER, OUTER, LAST = "inner", "outer", "last"
URL = "/v1/embeddings"
GOOD = json.dumps({"model": "all-minilm-l6-v2", "input": ["a cat"]}).encode()
_WHO = "x-request-id: {}".format
SMUGGLED = request("/v1/models", b"", _WHO(INNER), method="GET")
GOODBYE = request("/health/live", b"", _WHO(LAST), "Connection: close", method="GET")

Ending = Literal["read", "half-close", "close", "reset"]


class Attack(NamedTuple):
    """What is sent, a segment at a time, and how the sender then leaves.

    `answered`: ids of the requests that must be answered, in order; None where a refusal will do.
    """

    kind: str
    segments: list[bytes]
    ending: Ending = "read"
    answered: list[str] | None = None


def attacks(random: Random, count: int) -> Iterator[Attack]:
    """Yield `count` of all kinds in turn."""
    for number in range(count):
        yield _KINDS[number % len(_KINDS)](random)


def _cut(data: bytes, random: Random) -> list[bytes]:
    """Into one to five segments."""
    places = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((0, 0, 1, 2, 4))))
    return [part for part in (data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)) if part]


def _framed(random: Random, body: bytes, *headers: str) -> bytes:
    if random.random() < 0.5:
        return request(URL, body, _WHO(OUTER), *headers)
    content = chunked(body, random.choice((1, 7, 1_000)))
    return request(URL, content, _WHO(OUTER), "Transfer-Encoding: chunked", *headers, framed=False)


def _smuggling(random: Random) -> Attack:
    """Two framings, or one that another reader may understand otherwise."""
    content = chunked(SMUGGLED, random.choice((5, 1_000)))
    length = random.choice(
        (
            "Content-Length: {}",
            "Content-Length : {}",
            "Content-Length:\t{}",
            "Content-Length: +{}",
            "Content-Length: -{}",
            "Content-Length: 0x{:x}",
            "Content-Length: {0}, {0}",
            "Content-Length: {0}\r\nContent-Length: {0}",
            "Content-Length: {}\r\n 0",
            "Content-Length: {}\n",
            "Content-Length: {}\r",
            "Content-Length: \0{}",
            "Content-Length: {}.0",
            "Content-Length: 9{:030d}",
            "Content_Length: {0}\r\nContent-Length: {0}",
        )
    )
    coding = random.choice(
        (
            "Transfer-Encoding: chunked",
            "transfer-encoding: CHUNKED",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding:\tchunked",
            "Transfer-Encoding: \x0bchunked",
            "Transfer-Encoding: xchunked",
            'Transfer-Encoding: "chunked"',
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "Transfer-Encoding:\r\n chunked",
            "Transfer-Encoding: chunked;q=1",
            "\rTransfer-Encoding: chunked",
            "X: a\nTransfer-Encoding: chunked",
            "Transfer-Encoding: ",
        )
    )
    told = length.format(len(content))
    headers = [told, coding] if random.random() < 0.7 else [random.choice((told, coding))]
    random.shuffle(headers)
    sent = request(URL, content, _WHO(OUTER), *headers, framed=False, version=random.choice(("1.1", "1.1", "1.0")))
    return Attack("smuggling", _cut(sent + GOODBYE, random), random.choice(("read", "half-close")))


def _upgrades(random: Random) -> Attack:
    offers = (
        H2C,
        ("Connection: Upgrade", "Upgrade: TLS/1.0"),
        ("Connection: keep-alive, upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        ("Upgrade: h2c", "Connection: close, Upgrade"),
    )
    offer = random.choice(offers)
    sent = _framed(random, random.choice((SMUGGLED, GOOD, b"{}")), *offer)
    answered = [OUTER] if offer is offers[3] else [OUTER, LAST]
    return Attack("upgrades", _cut(sent + GOODBYE, random), answered=answered)


def _expectations(random: Random) -> Attack:
    expects = random.choice(("100-continue", "100-Continue", "200-ok", "100-continue, 100-continue", ""))
    sent = _framed(random, random.choice((SMUGGLED, GOOD)), f"Expect: {expects}")
    return Attack("expectations", _cut(sent + GOODBYE, random), answered=[OUTER, LAST])


def _chunks(random: Random) -> Attack:
    size = b"%x" % len(SMUGGLED)
    first = random.choice(
        (
            *(size, size.upper(), b"0" * 20 + size, size + b";a=b", size + b';a="\r\n"', size + b" ", size + b"\n"),
            *(b"-" + size, b"+" + size, b"0x" + size, b"f" * 16, b"f" * 17, b"", b";", size + b";" + b"a" * 50_000),
        )
    )
    last = random.choice(
        (
            *(
                b"0\r\n\r\n",
                b"0\r\nContent-Length: 5\r\nAuthorization: Bearer x\r\n\r\n",
                b"000\r\n\r\n",
                b"0\n\n",
                b"",
            ),
            *(b"0\r\nX: " + b"a" * 90_000 + b"\r\n\r\n", b"0\r\n: \r\n\r\n", b"-1\r\n\r\n", b"0;\r\n\r\n"),
        )
    )
    content = first + b"\r\n" + SMUGGLED + random.choice((b"\r\n", b"\r\n", b"\n", b"", b"xx")) + last
    sent = request(URL, content, _WHO(OUTER), "Transfer-Encoding: chunked", framed=False)
    return Attack("chunks", _cut(sent, random), random.choice(("half-close", "close")))


def _codings(random: Random) -> Attack:
    bodies = (
        gzip.compress(b" " * 20_000_000, 1),
        zlib.compress(b" " * 20_000_000, 1),
        gzip.compress(gzip.compress(GOOD)),
        gzip.compress(GOOD)[: random.randrange(20)],
        gzip.compress(GOOD) * 2,
        zlib.compress(GOOD)[2:],
        random.randbytes(100),
        SMUGGLED,
    )
    coding = random.choice(("gzip", "x-gzip", "deflate", "br", "zstd", "gzip, gzip", "identity", "\xff", ""))
    sent = _framed(random, random.choice(bodies), f"Content-Encoding: {coding}")
    return Attack("codings", _cut(sent + GOODBYE, random), answered=[OUTER, LAST])


def _cut_off(random: Random) -> Attack:
    sent = _framed(random, random.choice((SMUGGLED, GOOD, GOOD[:-1] + b" " * 100_000 + b"}")))
    sent = sent[: random.randrange(1, len(sent))]
    return Attack("cut off", _cut(sent, random), random.choice(("half-close", "close", "reset")))


def _left_early(random: Random) -> Attack:
    sent = _framed(random, GOOD) * random.choice((1, 1, 3))
    return Attack("left early", _cut(sent, random), random.choice(("half-close", "close", "reset")))


def _noise(random: Random) -> Attack:
    noise = random.randbytes(random.choice((1, 10, 1_000, 70_000)))
    starts = (b"", b"GET ", b"POST / HTTP/1.1\r\n", b"\x16\x03\x01", b"\r\n" * 50, b"PRI * HTTP/2.0\r\n\r\n")
    return Attack("noise", _cut(random.choice(starts) + noise, random), random.choice(("half-close", "close")))


def _flipped(random: Random) -> Attack:
    sent = bytearray(_framed(random, GOOD))
    for _ in range(random.choice((1, 2, 5))):
        sent[random.randrange(len(sent))] = random.choice((random.randrange(256), 0, 10, 13, 32, 58))
    return Attack("flipped bytes", _cut(bytes(sent), random), "half-close")


def _encodings(random: Random) -> Attack:
    text = json.dumps({"input": "caf\xe9 \U0001f600"}, ensure_ascii=False)
    bodies = (
        *(text.encode("utf-16"), text.encode("utf-32"), text.encode("utf-8-sig"), GOOD + b"\0", b"\0" * 100),
        *(b'{"input": "\\ud800"}', b'{"input": "\xed\xa0\x80"}', b'{"input": ' + b"[" * 5_000, b"1" * 5_000, b"NaN"),
        *(b'{"input": "a", "input": 1e999}', text.encode("latin-1", "replace"), b"\xff", b"input=a&model=b"),
    )
    kind = random.choice(("application/json; charset=utf-16", "text/plain", "multipart/form-data; boundary=a", "\xff"))
    sent = _framed(random, random.choice(bodies), f"Content-Type: {kind}")
    return Attack("encodings", _cut(sent + GOODBYE, random), answered=[OUTER, LAST])


def _heads(random: Random) -> Attack:
    size = random.choice((10, 1_000, 60_000, 66_000, 300_000))
    target = random.choice(("/" + "a" * size, "/?" + "%ff" * (size // 3), "/v1/models/" + "..%2f" * (size // 5)))
    headers = random.choice(
        (
            ["X: " + "a" * size],
            [f"x-{number}: " for number in range(size // 10)],
            ["a" * size + ": b"],
            ["Cookie: " + "a=b; " * (size // 5)],
            ["Authorization: Bearer " + "a" * size, "x-api-key: \xff"],
            ["Host: other"],
            [],
        )
    )
    sent = request(random.choice((target, "/v1/models")), b"", _WHO(OUTER), *headers, method="GET")
    return Attack("heads", _cut(sent, random), "half-close")


def _targets(random: Random) -> Attack:
    methods = (
        "GET",
        "POST",
        "HEAD",
        "PUT",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "PATCH",
        "PROPFIND",
        "CONNECT",
        "get",
        "G\xd6",
    )
    targets = (
        *("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//admin/models", "/admin/models/%00", "/v1/models/%ff%fe"),
        *("*", "http://other/v1/models", "https://", "//", "/;a=b", "/?a#b", "/v1/models#x", "v1/models", "/%", "/%zz"),
        *(
            "/v1/embeddings/..",
            "/\\..\\",
            "/v1/models/a%0d%0aX:%20y",
            "/docs/",
            "/openapi.json//",
            "/metrics?" + "a" * 99,
        ),
    )
    sent = request(random.choice(targets), b"", _WHO(OUTER), method=random.choice(methods))
    return Attack("targets", _cut(sent, random), "half-close")


def _pipelines(random: Random) -> Attack:
    number = random.choice((2, 5, 40))
    sent, ids = b"", []
    for place in range(number):
        ids.append(f"{OUTER}-{place}")
        target, method, body = random.choice(
            ((URL, "POST", GOOD), ("/health/live", "GET", b""), ("/nowhere", "POST", SMUGGLED), (URL, "POST", b"{"))
        )
        sent += request(target, body, _WHO(ids[-1]), method=method)
    return Attack("pipelines", _cut(sent + GOODBYE, random), answered=[*ids, LAST])


_KINDS: tuple[Callable[[Random], Attack], ...] = (
    _smuggling,
    _upgrades,
    _expectations,
    _chunks,
    _codings,
    _cut_off,
    _left_early,
    _noise,
    _flipped,
    _encodings,
    _heads,
    _targets,
    _pipelines,
)
