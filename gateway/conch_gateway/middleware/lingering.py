"""A transport that closes lingeringly (RFC 9112, 9.6), so that a peer that is still sending gets the last answer.

The kernel resets a connection that is closed with unread data, and the peer may then lose what it has not read. So only
our half is closed at first; the other stays open until the peer closes it, or has neither read nor closed for a while.
"""

from __future__ import annotations

import asyncio
from typing import Any


class Lingering:
    """A transport with a lingering `close()`; its protocol must ignore data that arrives afterwards.

    Args:
        transport: of a connection.
        patience_s: in which the peer must read something of what is still to be written.
        linger_s: in which it must close the connection after that.
    """

    def __init__(self, transport: asyncio.Transport, patience_s: float, linger_s: float) -> None:
        self._transport = transport
        self._patience_s, self._linger_s = patience_s, linger_s
        self._closed = False
        self._unwritten = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether `close` was called, or the transport itself is closing."""
        return self._closed or self._transport.is_closing()

    def close(self) -> None:
        """Close our half, and the other once the peer has."""
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
        left_s = self._patience_s if self._unwritten else self._linger_s
        asyncio.get_running_loop().call_later(left_s, self._end)

    def _end(self) -> None:
        if self._transport.get_write_buffer_size() < self._unwritten:  # the peer is still reading
            self._wait()
        else:
            self._transport.abort()
