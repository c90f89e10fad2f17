"""The parts of `conch bench` that need no server."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conch.app import app
from conch.load.closed_loop import Done, Load, closed_loop, percentile
from conch.load.http import Address, Connection, HttpError
from conch.load.texts import Lengths, synthetic_texts
from conch.texts import read_texts
from typer.testing import CliRunner

from benchmarks import workloads

if TYPE_CHECKING:
    from pathlib import Path


def test_there_is_no_percentile_of_nothing() -> None:
    assert math.isnan(percentile([], 50))


async def test_a_closed_loop_keeps_every_client_busy_and_counts_what_is_answered() -> None:
    under_way, most = 0, 0

    async def send(number: int) -> Done:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        if number % 10 == 3:
            raise ConnectionResetError("lost")
        return Done(2, 30)

    load = await closed_loop(send, clients=4, seconds=0.2)

    assert most == 4
    assert load.texts == 2 * len(load.latencies_s)
    assert load.tokens == 15 * load.texts
    assert load.errors["ConnectionResetError: lost"] > 0
    assert load.tokens_per_s == pytest.approx(load.tokens / load.seconds)


def test_a_load_without_an_answer_is_valid_json() -> None:
    summary = json.loads(json.dumps(Load().summary(), allow_nan=False))

    assert summary["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    assert summary["texts_per_s"] == 0


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "[::1]:8080"])
def test_the_host_of_a_request_is_that_of_the_address(host: str) -> None:
    assert f"\r\nHost: {host}\r\n".encode() in Address.of(f"http://{host}/x").request("GET")


@pytest.mark.parametrize(
    ("text", "low", "high"), [("16", 16, 16), ("8-256", 8, 256), ("mixed", 4, 512)], ids=["number", "range", "mixed"]
)
def test_synthetic_texts_have_as_many_words_as_asked_for(text: str, low: int, high: int) -> None:
    counts = [len(text.split()) + 2 for text in synthetic_texts(Lengths.parse(text))]

    assert low <= min(counts) <= max(counts) <= high
    assert len(counts) == 1024


@pytest.mark.parametrize("text", ["", "a", "9-", "2", "9-8", "-4"])
def test_lengths_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"mixed, a number|at least 3"):
        Lengths.parse(text)


def test_a_file_of_texts_has_one_in_every_line(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text("one\n\n two \n", encoding="utf-8")

    assert read_texts(path) == ["one", "two"]


def test_an_empty_file_of_texts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text("\n", encoding="utf-8")

    with pytest.raises(ValueError, match="no text"):
        read_texts(path)


def test_mixed_lengths_are_log_normal_within_limits() -> None:
    lengths = np.array(workloads.lengths("mixed", 20_000))

    assert np.median(lengths) == pytest.approx(40, abs=2)
    inner = np.log(lengths[(lengths > 4) & (lengths < 512)])
    assert inner.std() == pytest.approx(0.9, abs=0.05)
    assert (lengths.min(), lengths.max()) == (4, 512)
    assert workloads.lengths("mixed") == workloads.lengths("mixed")


def test_texts_that_are_not_in_utf_8_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_bytes(b"one\nna\xefve\n")
    with pytest.raises(ValueError, match=r"texts is not in UTF-8 \(line 2\); convert it, as with iconv"):
        read_texts(path)


@pytest.mark.parametrize("url", ["127.0.0.1:8001", "ftp://a", "http://", "http://a:b", "http://[::1"])
def test_what_is_no_http_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="http://HOST:PORT"):
        Address.of(url)


def test_a_key_is_sent_and_one_that_no_header_may_have_is_refused() -> None:
    url = "http://127.0.0.1:8080/v1/models"
    assert b"\r\nAuthorization: Bearer conch-abc\r\n" in Address.of(url, "conch-abc\n").request("GET")
    assert b"Authorization" not in Address.of(url).request("GET")
    with pytest.raises(ValueError, match="CONCH_API_KEY has a character that no key has"):
        Address.of(url, "a\r\nHost: b")


def test_a_file_that_cannot_be_written_is_told_before_the_load(tmp_path: Path) -> None:
    file = tmp_path / "none" / "profile.json"
    ended = CliRunner().invoke(app, ["bench", "http://127.0.0.1:1", "--profile", str(file)])
    assert ended.exit_code == 1
    assert ended.output.startswith(f"error: {tmp_path / 'none'} is no folder; create it")


async def answering(*answers: bytes) -> asyncio.Server:
    """A server that gives these answers to the requests of a connection, then hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for one in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(one)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


async def test_a_connection_is_kept_and_made_again_when_lost() -> None:
    server = await answering(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    )
    address = Address.of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x")
    connection, request = Connection(address), address.request("GET")
    async with server:
        assert [await connection.send(request), await connection.send(request)] == [b"ab", b""]
        with pytest.raises(ConnectionResetError):
            await connection.send(request)
        assert await connection.send(request) == b"ab"
        connection.close()


async def test_another_status_than_200_is_an_error_that_says_why_and_costs_no_connection() -> None:
    server = await answering(
        b"HTTP/1.1 429 Too Many\r\ncontent-length: 4\r\n\r\nfull", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"
    )
    address = Address.of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x")
    connection, request = Connection(address), address.request("GET")
    async with server:
        with pytest.raises(HttpError, match="429 Too Many: full"):
            await connection.send(request)
        assert await connection.send(request) == b"ab"
        connection.close()
