"""Compressed bodies: what they become is read a piece at a time, however little was sent for it."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest
from conch_gateway.errors import BodyTooLargeError
from conch_gateway.middleware.body import BodyReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Message, Receive, Scope, Send

MIB = 2**20


async def pieces_of(sent: bytes, at_once: int, max_bytes: int, coding: str = "gzip") -> AsyncIterator[bytes]:
    """The pieces in which an application gets a body of which so many bytes come at once."""
    arriving = [sent[begin : begin + at_once] for begin in range(0, len(sent), at_once)]
    found = asyncio.Queue[bytes | None](1)

    async def receive() -> Message:
        return {"type": "http.request", "body": arriving.pop(0), "more_body": bool(arriving)}

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            await found.put(message["body"])
            more = message["more_body"]

    async def run() -> None:
        try:
            scope = {"type": "http", "path": "/", "headers": [(b"content-encoding", coding.encode())]}
            await BodyReader(application, max_bytes)(scope, receive, receive)  # type: ignore[arg-type]
        finally:
            await found.put(None)

    running = asyncio.create_task(run())
    while (piece := await found.get()) is not None:
        yield piece
    await running


async def read(sent: bytes, at_once: int, max_bytes: int, coding: str = "gzip") -> bytes:
    """The whole body."""
    return b"".join([piece async for piece in pieces_of(sent, at_once, max_bytes, coding)])


async def test_a_body_that_grows_a_thousandfold_is_never_in_memory_as_a_whole() -> None:
    packer = zlib.compressobj(wbits=31)
    sent = b"".join([*(packer.compress(bytes(MIB)) for _ in range(64)), packer.flush()])
    assert len(sent) < MIB / 8
    tracemalloc.start()
    try:
        size = sum([len(piece) async for piece in pieces_of(sent, len(sent), 64 * MIB)])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size == 64 * MIB
    assert most < 4 * MIB


@pytest.mark.parametrize("at_once", [1, 1000, 10 * MIB])
@pytest.mark.parametrize("size", [0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 3 * 256 * 1024])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_however_a_body_comes_it_is_read_whole(coding: str, size: int, at_once: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    sent = gzip.compress(content) if coding == "gzip" else zlib.compress(content)

    assert await read(sent, at_once, max(size, len(sent)), coding) == content


async def test_a_body_that_becomes_a_byte_too_many_is_refused() -> None:
    sent = gzip.compress(bytes(2 * MIB))
    with pytest.raises(BodyTooLargeError):
        await read(sent, len(sent), 2 * MIB - 1)
