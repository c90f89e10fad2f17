"""Processor time that a request costs its client: conch's load generator, httpx, aiohttp.

    python benchmarks/http_clients.py

Each sends 6,000 requests over 32 connections to a server in another process that gives the same answer to all, as large
as one vector in base64; printed are microseconds of the client's processor time for one request.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, cast

import aiohttp
import httpx
import uvloop
from conch.load.http import Address, Connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CONNECTIONS, REQUESTS = 32, 6_000
QUESTION = json.dumps({"model": "m", "input": ["word " * 40], "encoding_format": "base64"}).encode()
ANSWER = json.dumps({"data": [{"embedding": "A" * 2048, "index": 0}], "usage": {"prompt_tokens": 40}}).encode()


class Answering(asyncio.Protocol):
    """Answers every request whose body has arrived."""

    def __init__(self) -> None:
        self._arrived = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._arrived += data
        if self._arrived.endswith(QUESTION):
            self._arrived = b""
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(ANSWER)}\r\n\r\n"
            self._transport.write(head.encode() + ANSWER)


async def serve() -> None:
    """Print the port, and answer until killed."""
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def microseconds(send: Callable[[], Awaitable[object]]) -> float:
    """Of processor time for a request, connections made and libraries warm."""

    async def client(requests: int) -> None:
        for _ in range(requests):
            await send()

    for requests in (10, REQUESTS // CONNECTIONS):
        began = time.process_time()
        await asyncio.gather(*(client(requests) for _ in range(CONNECTIONS)))
    return 1e6 * (time.process_time() - began) / (requests * CONNECTIONS)


async def measure(url: str) -> dict[str, float]:
    """Each client's."""
    headers, address = {"Content-Type": "application/json"}, Address.of(url)
    request, free = address.request("POST", QUESTION), [Connection(address) for _ in range(CONNECTIONS)]

    async def own() -> None:
        connection = free.pop()
        await connection.send(request)
        free.append(connection)

    async with AsyncExitStack() as stack:
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        by_httpx = await stack.enter_async_context(httpx.AsyncClient(limits=limits, headers=headers))
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        by_aiohttp = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, headers=headers))

        async def with_aiohttp() -> None:
            async with by_aiohttp.post(url, data=QUESTION) as answer:
                await answer.read()

        return {
            "conch": await microseconds(own),
            "httpx": await microseconds(lambda: by_httpx.post(url, content=QUESTION)),
            "aiohttp": await microseconds(with_aiohttp),
        }


def main() -> None:
    """Measure on asyncio's loop, as `conch bench` runs, and on uvloop's."""
    with subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1/embeddings"
            for loop, run in (("asyncio", asyncio.run), ("uvloop", uvloop.run)):
                print(loop, {name: round(time_us) for name, time_us in run(measure(url)).items()})
        finally:
            server.kill()


if __name__ == "__main__":
    uvloop.run(serve()) if sys.argv[1:] == ["serve"] else main()
