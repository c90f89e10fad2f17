"""HTTP/1.1 over one kept-alive connection, as cheap as Python allows: a load generator shares the server's cores.

A library would slow down what it measures: with 32 connections a request costs httpx 0.28 some 1,850 µs of processor
time, aiohttp 3.14 some 80, and this 16 (`benchmarks/http_clients.py`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

_HEADER_END = b"\r\n\r\n"


class HttpError(Exception):
    """The server answered with another status than 200, or in unsupported HTTP."""


@dataclass(frozen=True)
class Address:
    """Host, port and path of a URL such as `http://127.0.0.1:8080/v1/embeddings`, and the API key of its requests."""

    host: str
    port: int
    path: str
    tls: bool
    key: str = ""

    @classmethod
    def of(cls, url: str, key: str | None = None) -> Address:
        """Read a URL and a key.

        Raises:
            ValueError: it is none for HTTP, or the key has a character that no header may have.
        """
        key = (key or "").strip()  # files of secrets often end in a line end
        if not (key.isascii() and key.isprintable()):
            raise ValueError("CONCH_API_KEY has a character that no key has; set it to the key alone")
        no_address = f"{url!r} is no HTTP address; give one as http://HOST:PORT"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(no_address) from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(no_address)
        tls = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if tls else 80), parts.path or "/", tls, key)

    def request(self, method: str, body: bytes = b"") -> bytes:
        """Return the bytes of a request with a JSON body."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        fields = f"Host: {host}:{self.port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        if self.key:
            fields += f"\r\nAuthorization: Bearer {self.key}"
        return f"{method} {self.path} HTTP/1.1\r\n{fields}".encode() + _HEADER_END + body

    async def get(self) -> bytes:
        """Return what is there, over a connection of its own; raises as `Connection.send`."""
        connection = Connection(self)
        try:
            return await connection.send(self.request("GET"))
        finally:
            connection.close()


class Connection:
    """One connection, opened by the first request and again after it was lost."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> bytes:
        """Send a request and return the body of the answer.

        Raises:
            HttpError: any status but 200; the message has the beginning of what the server said.
            OSError: there is no server, or it hung up.
        """
        try:
            header, body = await self._exchange(request)
        except BaseException:
            self.close()  # what is left of a broken exchange would be taken for the next answer
            raise
        # In the status line only: any header might have a 200 of its own.
        if b" 200 " not in header[:14]:
            status = header.split(b"\r\n", 1)[0].decode(errors="replace")
            raise HttpError(f"{status}: {body[:200].decode(errors='replace')}")
        return body

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, request: bytes) -> tuple[bytes, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                self._address.host, self._address.port, ssl=self._address.tls or None, limit=1 << 20
            )
        reader, writer = self._streams
        writer.write(request)
        try:
            header = await reader.readuntil(_HEADER_END)
            body = await reader.readexactly(_content_length(header))
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the server hung up") from error
        return header, body


def _content_length(header: bytes) -> int:
    for line in header.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise HttpError("the answer has no Content-Length; what answers is no gateway of conch")
