"""Pure-ASGI layers between a request's content and its reader: how much of it, in which coding, and what is left over.

Errors are raised where the endpoint reads, so that they are answered in the endpoint's dialect.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conch_gateway.errors import BodyTooLargeError, MalformedBodyError, UnsupportedCodingError
from conch_gateway.middleware.head import values
from conch_gateway.telemetry.request import path_of

ACCEPTED_CODINGS = "gzip, deflate, identity"
_ZLIB_FORMATS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # zlib's window bits
_CHUNKED = 2**63  # stands for the length that a chunked body does not declare
_PIECE_BYTES = 256 * 1024  # of an inflated body: a few kilobytes may become gigabytes


class BodyReader:
    """Hands on a body of at most `max_bytes`, as it was sent and as it is inflated from gzip or deflate.

    Args:
        larger: other limits, by path.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, larger: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._larger = larger or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        declared, received = _declared_bytes(scope), 0
        max_bytes = self._larger.get(path_of(scope), self._max_bytes)
        coding = b", ".join(values(scope["headers"], b"content-encoding")).strip().lower()
        inflater = None if coding in {b"", b"identity"} else _Inflater(coding, max_bytes)

        async def receive_checked() -> Message:
            nonlocal received
            if declared != _CHUNKED and declared > max_bytes:
                raise _too_large(max_bytes)
            if inflater is not None and inflater.has_more:
                await asyncio.sleep(0)  # others have the event loop between two pieces
                return inflater.piece()
            message = await receive()
            content = message.get("body", b"")
            received += len(content)
            if received > max_bytes:
                raise _too_large(max_bytes)
            if inflater is None or message["type"] != "http.request":
                return message
            return inflater.piece(content, last=not message.get("more_body"))

        await self._app(scope, receive_checked, send)


class _Inflater:
    """Inflates a body a piece at a time.

    Attributes:
        has_more: whether what was received may become more than the pieces so far.
    """

    def __init__(self, coding: bytes, max_bytes: int) -> None:
        self._coding = coding.decode("latin-1")
        self._max_bytes = self._left = max_bytes
        self._stream = zlib.decompressobj(_ZLIB_FORMATS[coding]) if coding in _ZLIB_FORMATS else None
        self._last = False
        self.has_more = False

    def piece(self, received: bytes = b"", *, last: bool = False) -> Message:
        """Return the next piece as a message; while there are more, nothing may be `received`."""
        if self._stream is None:
            msg = f"a body in content-encoding {self._coding!r} cannot be read; send one of: {ACCEPTED_CODINGS}"
            raise UnsupportedCodingError(msg)
        self._last = self._last or last
        # One byte beyond the limit proves that it is exceeded; the rest of what may be gigabytes is never inflated.
        most = min(_PIECE_BYTES, self._left + 1)
        try:
            content = self._stream.decompress(self._stream.unconsumed_tail + received, most)
        except zlib.error as error:
            raise self._malformed("is not") from error
        self._left -= len(content)
        if self._left < 0:
            raise _too_large(self._max_bytes)
        if self._stream.unused_data:
            raise self._malformed("goes on after the end of its")
        # zlib may hold back what had no room, though it has read all that there was.
        self.has_more = len(content) == most and not self._stream.eof
        ended = self._last and not self.has_more
        if ended and not self._stream.eof:
            raise self._malformed("ends before its")
        return {"type": "http.request", "body": content, "more_body": not ended}

    def _malformed(self, what: str) -> MalformedBodyError:
        return MalformedBodyError(f"the body {what} {self._coding}, which its content-encoding says it is")


class Drain:
    """Goes on reading, for a while, the rest of a request that has been answered already.

    Closed at once, the connection would be reset, and a client that writes everything before it reads would never see
    the answer (RFC 9112, 9.6). The answer announces that the connection is closed where the body is declared longer
    than will be read, and where the client waits for 100 Continue and so may never send it.
    """

    def __init__(self, app: ASGIApp, max_bytes: int = 64 * 2**20, max_s: float = 30.0) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_s = max_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        declared = _declared_bytes(scope)
        if not declared:
            await self._app(scope, receive, send)
            return
        read = whole = left = False
        expects_continue = bool(values(scope["headers"], b"expect"))

        async def receive_watched() -> Message:
            nonlocal read, whole
            read = True
            message = await receive()
            whole = not message.get("more_body", False)
            return message

        async def send_all_but_the_end(message: Message) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                if not whole and (declared > self._max_bytes or (expects_continue and not read)):
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            elif not whole and not message.get("more_body", False):
                # The caller knows by its length that the answer is whole; the server must not see its end and close.
                left = True
                message["more_body"] = True
            await send(message)

        await self._app(scope, receive_watched, send_all_but_the_end)
        if left:
            with anyio.move_on_after(self._max_s):
                await self._drain(receive)
            await send({"type": "http.response.body"})

    async def _drain(self, receive: Receive) -> None:
        read, more = 0, True
        while more and read <= self._max_bytes:
            message = await receive()
            read += len(message.get("body", b""))
            more = message.get("more_body", False)


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than {max_bytes} bytes; send fewer or shorter texts in one request")


def _declared_bytes(scope: Scope) -> int:
    """Return the length that the head declares: 0 without a body, `_CHUNKED` for chunks."""
    if values(scope["headers"], b"transfer-encoding"):
        return _CHUNKED
    declared = next(iter(values(scope["headers"], b"content-length")), b"").strip()
    return int(declared[:18]) if declared.isdigit() else 0  # a number of more digits is too large in any case
