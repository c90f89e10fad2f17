"""An upstream whose address leads back to the gateway."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from tests.unit.gateway.conftest import Serve


class Way:
    """Listens, and passes what comes on to the gateway."""

    def __init__(self) -> None:
        self.gateway: httpx.AsyncClient
        self.passed = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passed += 1
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        content = await reader.readexactly(int(headers.pop("content-length")))
        answer = await self.gateway.post(first.split()[1], content=content, headers=headers)
        head = f"HTTP/1.1 {answer.status_code} -\r\ncontent-length: {len(answer.content)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + answer.content)
        await writer.drain()
        writer.close()


@pytest.fixture
async def way(http_with: Serve, tmp_path: Path) -> AsyncIterator[Way]:
    found = Way()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    (tmp_path / "models.toml").write_text(f'[round]\nurl = "{url}"\nmodel = "round"\n')
    async with http_with(models_file=tmp_path / "models.toml") as found.gateway:
        yield found
    server.close()


async def test_it_is_told_that_it_leads_back(way: Way) -> None:
    with anyio.fail_after(PATIENCE_S):
        answer = await way.gateway.post("/v1/embeddings", json={"model": "round", "input": "a text"})

    assert (answer.status_code, way.passed) == (502, 1)
    assert "leads back" in answer.json()["error"]["message"]


async def test_other_servers_on_the_way_are_no_loop(way: Way) -> None:
    body, headers = {"model": "letters", "input": "a text"}, {"via": "1.1 proxy, 1.1 conch-0123456789abcdef"}

    assert (await way.gateway.post("/v1/embeddings", json=body, headers=headers)).status_code == 200
