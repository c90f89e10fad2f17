"""A transport that closes lingeringly (RFC 9112, 9.6), so that a peer that is still sending gets the last answer.

The kernel resets a connection that is closed with unread data, and the peer may then lose what it has not read. So only
our half is closed at first; the other stays open until the peer closes it or `linger_s` has passed.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast


def lingering(transport: asyncio.Transport, linger_s: float) -> asyncio.Transport:
    """Return the transport with a lingering `close()`; its protocol must ignore data that arrives afterwards."""
    return cast("asyncio.Transport", _Lingering(transport, linger_s))


class _Lingering:
    def __init__(self, transport: asyncio.Transport, linger_s: float) -> None:
        self._transport = transport
        self._linger_s = linger_s
        self._closed = False
        self._unwritten = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._closed or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
        self._closed = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._wait()
        else:  # TLS has its own closing message
            self._transport.close()

    def _wait(self) -> None:
        self._unwritten = self._transport.get_write_buffer_size()
        asyncio.get_running_loop().call_later(self._linger_s, self._end)

    def _end(self) -> None:
        unwritten = self._transport.get_write_buffer_size()
        if unwritten and unwritten < self._unwritten:  # the peer is still reading
            self._wait()
        else:
            self._transport.abort()
