"""The gateways that a request has come through, in the header `via`: one that leads back to a gateway is refused."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from contextvars import ContextVar

from conch_gateway.errors import LoopError

_OWN = f"conch-{secrets.token_hex(8)}"
_GATEWAY = re.compile(r"conch-[0-9a-f]{16}")
_MOST = 16  # a loop through replicas that are replaced meanwhile shows each name once
_passed: ContextVar[tuple[str, ...]] = ContextVar("passed", default=())


def note_hops(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Remember the gateways that the current request has come through; raises LoopError if this is among them."""
    names = _GATEWAY.findall(",".join(value.decode("latin-1") for name, value in headers if name == b"via"))
    if _OWN in names or len(names) >= _MOST:
        raise LoopError(
            "the request has come through this gateway before: `url` of a model in a models file leads back here; "
            "correct it"
        )
    _passed.set(tuple(names))


def via() -> str:
    """Return the header of a call to an upstream for the current request."""
    return ", ".join(f"1.1 {name}" for name in (*_passed.get(), _OWN))
