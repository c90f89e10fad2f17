"""HTTP/1.1 by hand: what no well-behaved client would send, and a strict reader of what comes back."""

from __future__ import annotations

import socket
from typing import NamedTuple

H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
TIMEOUT_S = 20


class Answer(NamedTuple):
    """A final response; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One TCP connection to 127.0.0.1."""

    def __init__(self, port: int, *, receive_bytes: int | None = None) -> None:
        """With `receive_bytes`, the kernel keeps no more than about so many that were not read yet."""
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(("127.0.0.1", port))
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, *, head: bool = False) -> Answer | None:
        """Read the next response, interim ones left out; None where the connection is closed or reset instead."""
        try:
            return self._read(head=head)
        except ConnectionError:
            return None

    def answers(self) -> list[Answer]:
        """Read all that comes until the server closes; raises TimeoutError when it does not."""
        return list(iter(self.answer, None))

    def _read(self, *, head: bool) -> Answer | None:
        while line := self._file.readline():
            version, status, _ = line.decode("ascii").split(" ", 2)
            assert version == "HTTP/1.1", line
            headers: dict[str, str] = {}
            while (line := self._file.readline()) != b"\r\n":
                assert line.endswith(b"\r\n"), line
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            if status != "100":
                body = b"" if head else self._file.read(int(headers["content-length"]))
                return Answer(int(status), headers, body)
        return None


def request(
    target: str, body: bytes = b"", *headers: str, method: str = "POST", version: str = "1.1", framed: bool = True
) -> bytes:
    """Write a request; without `framed` the headers say how long it is, or lie."""
    length = [f"Content-Length: {len(body)}"] if framed and (body or method == "POST") else []
    head = [f"{method} {target} HTTP/{version}", "Host: conch", *headers, *length, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def chunked(body: bytes, size: int = 7) -> bytes:
    """Cut a body into chunks."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
