"""Answers of another server that are too large, or encoded as nobody asked: they are not read."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from conch_gateway.backends import upstream_server

if TYPE_CHECKING:
    from tests.unit.gateway.conftest import Serve
    from tests.unit.gateway.other_server import OtherServer


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_an_answer_that_has_no_end_is_read_no_further_than_the_limit(
    http_of: Serve, other: OtherServer, monkeypatch: pytest.MonkeyPatch, status: int, encoding: str
) -> None:
    monkeypatch.setattr(upstream_server, "_MOST_BYTES", 1 << 20)
    content = b'{"data": "' + bytes(2 << 20)
    content = gzip.compress(content) if encoding == "gzip" else content
    other.script = [(status, content, {"content-encoding": encoding})]
    async with http_of("retries = 0") as http:
        response = await http.post("/v1/embeddings", json={"model": "far", "input": "a"})
        after = await http.post("/v1/embeddings", json={"model": "far", "input": "a"})
    assert (response.status_code, "more than 1 MiB" in response.text) == (502, True)
    assert (after.status_code, len(after.json()["data"])) == (200, 1)


async def test_an_answer_in_an_encoding_that_was_not_asked_for_is_not_read(http_of: Serve, other: OtherServer) -> None:
    other.script = [(200, b"any", {"content-encoding": "br"})]
    async with http_of("retries = 0") as http:
        response = await http.post("/v1/embeddings", json={"model": "far", "input": "a"})
    assert (response.status_code, "encoded as 'br'" in response.text) == (502, True)
    assert "accept-encoding: gzip\r\n" in other.heads[0]
