"""The rules for the head of a request that the parser leaves to the server: one framing, one reading (RFC 9112).

llhttp refuses bare line feeds, folded headers, and lengths that contradict each other; what is refused here is what a
proxy in front might still have read in another way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Headers = Sequence[tuple[bytes, bytes]]

MAX_HEAD_BYTES = 64 * 1024
_VERSIONS = ("1.0", "1.1")


class Refusal(Exception):  # noqa: N818 - it is an answer as much as an error
    """A message that is not taken: the status and what to tell the sender."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def head_too_large() -> Refusal:
    """Refuse a head for its size."""
    return Refusal(431, f"the target and the headers have more than {MAX_HEAD_BYTES} bytes; send fewer or shorter ones")


def check_head(version: str, method: bytes, target: bytes, headers: Headers) -> None:
    """Raise Refusal for a head that cannot be answered; names of headers are in lower case."""
    if version not in _VERSIONS:
        raise Refusal(400, f"HTTP/{version} is not spoken here; send HTTP/1.1")
    if method == b"CONNECT":
        raise Refusal(400, "CONNECT is for proxies, and this is none")
    if len(target) + sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEAD_BYTES:
        raise Refusal(
            431, f"the target and the headers have more than {MAX_HEAD_BYTES} bytes; send fewer or shorter ones"
        )
    if version == "1.1" and len(_values(headers, b"host")) != 1:
        raise Refusal(400, "a request needs exactly one Host header")
    codings = _values(headers, b"transfer-encoding")
    if codings and (version == "1.0" or [coding.strip().lower() for coding in codings] != [b"chunked"]):
        raise Refusal(400, "the only transfer encoding is chunked, in HTTP/1.1; leave it out or send a Content-Length")


def head_without_offer(version: str, method: bytes, target: bytes, headers: Headers) -> bytes:
    """Write the head again without the offer to speak another protocol, which a server may ignore (RFC 9110, 7.8)."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    for name, value in headers:
        if name == b"upgrade":
            continue
        kept = _without_upgrade(value) if name == b"connection" else value
        lines.append(b"%b: %b" % (name, kept))
    return b"\r\n".join([*lines, b"", b""])


def _without_upgrade(connection: bytes) -> bytes:
    return b",".join(token for token in connection.split(b",") if token.strip().lower() != b"upgrade")


def _values(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]
