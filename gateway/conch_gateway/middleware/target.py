"""What a request line asks for, however it is written: an outermost pure-ASGI layer.

Doubled and trailing slashes name the same resource, without a redirect, which would lose a POST's body; and HEAD is a
GET whose content stays here. All other layers, the one that asks for keys among them, see the result.
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SLASHES = re.compile("//+")


class Target:
    """Hands on the plain path, and GET for HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = _SLASHES.sub("/", scope["path"])
        plain = {**scope, "path": path.rstrip("/") or "/"}
        if scope["method"] != "HEAD":
            await self._app(plain, receive, send)
            return

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**plain, "method": "GET"}, receive, send_head)
