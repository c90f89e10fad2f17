"""Connections that no good client makes: slow, half closed, and far too many."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable

import anyio

SLOW_ONES, HALF_CLOSED_ONES, FLOODING_ONES = 100, 50, 200
SLOW_BYTES_S = 0.2
REQUESTS_EACH = 10

Conversation = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _request(port: int, key: str) -> bytes:
    body = json.dumps({"input": "a cat sat on the mat"}).encode()
    head = [
        "POST /v1/embeddings HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


async def slow(port: int, key: str, seconds: float) -> None:
    """Send requests a byte at a time, so that none of them is whole by the end."""
    request = _request(port, key)

    async def one(_: int, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in request[: int(seconds / SLOW_BYTES_S)]:
            writer.write(bytes([byte]))
            await asyncio.sleep(SLOW_BYTES_S)

    await _all(one, port, SLOW_ONES, seconds)


async def half_closed(port: int, key: str, seconds: float) -> None:
    """Send a whole request, or half of one, and say that nothing more comes, but stay for the answer."""
    request = _request(port, key)

    async def one(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request if number % 2 else request[: len(request) // 2])
        writer.write_eof()
        await reader.read()
        await asyncio.sleep(seconds)

    await _all(one, port, HALF_CLOSED_ONES, seconds)


async def flooding(port: int, key: str, seconds: float) -> None:
    """Send many requests on many connections at once and read no answer."""
    requests = _request(port, key) * REQUESTS_EACH

    async def one(_: int, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(requests)
        await writer.drain()
        await asyncio.sleep(seconds)

    await _all(one, port, FLOODING_ONES, seconds)


async def _all(one: Conversation, port: int, count: int, seconds: float) -> None:
    """Open connections and break them when the time is up, whatever they do then."""
    deadline = time.monotonic() + seconds

    async def connected(number: int) -> None:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                with anyio.move_on_after(max(0.1, deadline - time.monotonic())):
                    await one(number, reader, writer)
            finally:
                writer.transport.abort()

    await asyncio.gather(*map(connected, range(count)))
