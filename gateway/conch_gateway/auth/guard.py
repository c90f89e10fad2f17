"""Who may pass: a pure-ASGI layer that asks for a key, and turns away what there is no room for before it is read.

Once there are keys, everything takes one, metrics too, but liveness, readiness, and the pages, which hold nothing and
ask for the key themselves: to who brings none, they name no model. Administration always takes an administrator's key.
Whoever is turned away is answered in the dialect of the path.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from conch_gateway.api.pages import PAGES
from conch_gateway.api.route import error_response
from conch_gateway.auth.keyring import Keyring, presented_key
from conch_gateway.auth.keys import ANYBODY, NOBODY, Key
from conch_gateway.auth.quota import Quotas
from conch_gateway.errors import ForbiddenError, GatewayError, UnauthenticatedError
from conch_gateway.scheduling.admission import CHARACTERS_PER_TOKEN, LONGEST_ROW, Admission
from conch_gateway.telemetry.trace import Trace, trace_of

_OPEN = re.compile(r"(/v1)?/health(/live|/ready)?|/ping")
_ADMIN = "/admin/"
_HOW = "send it as authorization: Bearer KEY, api-key: KEY or x-api-key: KEY"


class Guard:
    """Lets in who has a key that may."""

    def __init__(self, app: ASGIApp, keyring: Keyring, admission: Admission, asks_triton: Callable[[], bool]) -> None:
        """`asks_triton` says whether all requests wait for Triton: none for another server, or for nobody."""
        self._app = app
        self._keyring = keyring
        self._admission = admission
        self._asks_triton = asks_triton
        self._quotas = Quotas()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = trace_of(Request(scope))
        if _is_open(scope):
            trace.key = self._guest(dict(scope["headers"]))
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope, trace)
        except GatewayError as error:
            response = await error_response(Request(scope), error)
            await response(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._quotas.spend(trace.key, trace.tokens)

    def _check(self, scope: Scope, trace: Trace) -> None:
        headers = dict(scope["headers"])
        admin = _path(scope).startswith(_ADMIN)
        if admin and not self._keyring.has_admin:
            msg = "administration is shut; set CONCH_ADMIN_KEY, or make a key with: conch keys create NAME --admin"
            raise ForbiddenError(msg)
        if admin or self._keyring.closed:
            key = self._identified(headers)
            if admin and not key.admin:
                msg = f"key {key.name!r} is not an administrator's; make one with: conch keys create NAME --admin"
                raise ForbiddenError(msg)
            self._quotas.begin(key)
            trace.key, trace.caller = key, key.name
        if scope["method"] == "POST" and not admin:
            tokens = _least_tokens(headers.get(b"content-length", b""))
            self._admission.check(trace, tokens, for_triton=self._asks_triton())

    def _guest(self, headers: dict[bytes, bytes]) -> Key:
        """Who comes to what is open to all."""
        if not self._keyring.closed:
            return ANYBODY
        secret = presented_key(headers)
        return (self._keyring.find(secret) if secret is not None else None) or NOBODY

    def _identified(self, headers: dict[bytes, bytes]) -> Key:
        secret = presented_key(headers)
        if secret is None:
            msg = f"this takes an API key; {_HOW}"
            raise UnauthenticatedError(msg)
        key = self._keyring.find(secret)
        if key is None:
            msg = f"the API key is unknown or was revoked; ask the operator for another and {_HOW}"
            raise UnauthenticatedError(msg)
        return key


def _is_open(scope: Scope) -> bool:
    return bool(_OPEN.fullmatch(_path(scope))) or (scope["method"] == "GET" and _path(scope) in PAGES)


def _path(scope: Scope) -> str:
    """Return the path that the routes know: another server may have mounted the application below one of its own."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _least_tokens(content_length: bytes) -> int:
    """About the least that a body of this size means: escapes take space, and of one long text most may be cut."""
    size = int(content_length) if content_length.isdigit() and len(content_length) < 10 else 0
    return min(size // (2 * CHARACTERS_PER_TOKEN), LONGEST_ROW)
