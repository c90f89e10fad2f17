"""Rules for the head of a request that the parser leaves to the server: one framing, one reading (RFC 9112).

llhttp refuses bare line feeds, folded headers, and lengths that contradict each other. The rules here refuse what a
proxy in front might have read in another way.
"""

from __future__ import annotations

from collections.abc import Sequence

Headers = Sequence[tuple[bytes, bytes]]

MAX_HEAD_BYTES = 64 * 1024


class RefusalError(Exception):
    """A message that cannot be taken: the status and the reason that its sender gets."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def head_too_large() -> RefusalError:
    """Return the refusal of a head for its size."""
    msg = f"the target and the headers have more than {MAX_HEAD_BYTES} bytes; send fewer or shorter ones"
    return RefusalError(431, msg)


def check_head(version: str, method: bytes, target: bytes, headers: Headers) -> None:
    """Raise RefusalError for a head that cannot be answered; names of headers are in lower case."""
    if version not in {"1.0", "1.1"}:
        raise RefusalError(400, f"HTTP/{version} is not spoken here; send HTTP/1.1")
    if method == b"CONNECT":
        raise RefusalError(400, "CONNECT is for proxies, and this is none")
    # 4: the colon, the space and the end of the line, so that many tiny headers count as well.
    if len(target) + sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEAD_BYTES:
        raise head_too_large()
    if version == "1.1" and len(values(headers, b"host")) != 1:
        raise RefusalError(400, "a request needs exactly one Host header")
    codings = values(headers, b"transfer-encoding")
    if codings and (version == "1.0" or [coding.strip().lower() for coding in codings] != [b"chunked"]):
        msg = "the only transfer encoding is chunked, in HTTP/1.1; leave it out or send a Content-Length"
        raise RefusalError(400, msg)


def head_without_offer(version: str, method: bytes, target: bytes, headers: Headers) -> bytes:
    """Write the head again without the offer to speak another protocol, which a server may ignore (RFC 9110, 7.8)."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    for name, value in headers:
        if name != b"upgrade":
            lines.append(b"%b: %b" % (name, _without_upgrade(value) if name == b"connection" else value))
    return b"\r\n".join([*lines, b"", b""])


def _without_upgrade(connection: bytes) -> bytes:
    return b",".join(token for token in connection.split(b",") if token.strip().lower() != b"upgrade")


def values(headers: Headers, wanted: bytes) -> list[bytes]:
    """Return the values of the headers of one name, which is in lower case."""
    return [value for name, value in headers if name == wanted]
