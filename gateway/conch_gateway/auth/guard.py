"""Authorises requests: a pure-ASGI layer that checks the API key, and refuses early what there is no capacity for.

Once there are keys, every path needs one, `/metrics` too, except liveness, readiness, the pages, which hold no data
and ask for the key themselves, and the module with which pages compute. Administration always needs an administrator's
key. A refusal is answered in the dialect of the path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from conch_gateway.api import is_open
from conch_gateway.auth.keyring import Keyring
from conch_gateway.auth.keys import ANYBODY, NOBODY, Key
from conch_gateway.auth.quota import Quotas
from conch_gateway.errors import ForbiddenError, UnauthenticatedError
from conch_gateway.hops import note_hops
from conch_gateway.scheduling.admission import Admission, Backlog, work_of
from conch_gateway.scheduling.sizes import CHARACTERS_PER_TOKEN, LONGEST_ROW
from conch_gateway.scheduling.slots import Flow
from conch_gateway.telemetry.request import context_of, identify, path_of, usage_of

_OPEN = re.compile(r"(/v1)?/health(/live|/ready)?|/ping")
_ADMIN = "/admin/"
_STORED = ("/v1/files", "/v1/batches")  # compute nothing now
_HOW = "send it as authorization: Bearer KEY, api-key: KEY or x-api-key: KEY"
_CREATE = "conch keys create NAME --admin"


class Guard:
    """Lets a request pass whose key permits it.

    Args:
        quotas: of the keys.
        backlog: returns the one that every request joins; None where there are several, or the cache may answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        keyring: Keyring,
        quotas: Quotas,
        admission: Admission,
        backlog: Callable[[], Backlog | None],
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._admission = admission
        self._backlog = backlog
        self._quotas = quotas

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request; raises GatewayError where it may not pass."""
        await self._check(scope)
        try:
            await self._app(scope, receive, send)
        finally:
            # Also after a failure: what has been computed by then counts.
            usage = usage_of(scope)
            if usage is not None:
                self._quotas.spend(context_of(scope).key, usage.tokens)

    async def _check(self, scope: Scope) -> None:
        path, headers = path_of(scope), dict(scope["headers"])
        if _OPEN.fullmatch(path) or (scope["method"] in {"GET", "HEAD"} and is_open(path)):
            identify(scope, key=self._guest(headers))
            return
        admin = path.startswith(_ADMIN)
        if admin or self._keyring.closed:
            key = await self._authorised(headers, admin=admin)
            identify(scope, key=key, caller=key.name)
        if scope["method"] == "POST" and not admin and not path.startswith(_STORED):
            note_hops(scope["headers"])
            # Before the body is read only its length is known: at least one text, of at least so many tokens.
            tokens = _least_tokens(headers.get(b"content-length", b""))
            backlog, context = self._backlog(), context_of(scope)
            self._admission.check(1, tokens, background=context.background)
            if backlog is not None:
                work = work_of(1, tokens, 1, background=context.background)
                backlog.check(Flow(context.caller, work), tokens, context.timeout_s)

    def _guest(self, headers: Mapping[bytes, bytes]) -> Key:
        """Return the key of a request for an open path; without a valid one it sees no model's name."""
        if not self._keyring.closed:
            return ANYBODY
        secret = _presented(headers)
        return (self._keyring.find(secret) if secret else None) or NOBODY

    async def _authorised(self, headers: Mapping[bytes, bytes], *, admin: bool) -> Key:
        if admin and not self._keyring.has_admin:
            raise ForbiddenError(f"administration is shut; set CONCH_ADMIN_KEY, or make a key with: {_CREATE}")
        secret = _presented(headers)
        if secret is None:
            raise UnauthenticatedError(f"this takes an API key; {_HOW}")
        key = self._keyring.find(secret)
        if key is None:
            raise UnauthenticatedError(
                f"the API key is unknown or was revoked; ask the operator for another and {_HOW}"
            )
        if admin and not key.admin:
            raise ForbiddenError(f"key {key.name!r} is not an administrator's; make one with: {_CREATE}")
        await self._quotas.begin(key)
        return key


def _presented(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the secret of `Authorization: Bearer KEY`, `api-key: KEY` or `x-api-key: KEY`."""
    scheme, _, token = headers.get(b"authorization", b"").strip().partition(b" ")
    secret = token if scheme.lower() == b"bearer" and token else headers.get(b"api-key") or headers.get(b"x-api-key")
    return secret.strip().decode("latin-1") if secret else None


def _least_tokens(content_length: bytes) -> int:
    """Estimate the fewest tokens of a body of this size: JSON escapes take space, and a long text is mostly cut off."""
    # Longer numbers are left to the layer that limits bodies.
    size = int(content_length) if content_length.isdigit() and len(content_length) < 10 else 0
    return min(size // (2 * CHARACTERS_PER_TOKEN), LONGEST_ROW)
