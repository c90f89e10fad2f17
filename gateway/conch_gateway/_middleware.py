"""Two pure-ASGI layers around every endpoint: one observes, one limits the body while it streams in."""

import asyncio

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conch_gateway._metrics import Metrics
from conch_gateway._route import error_response
from conch_gateway._trace import Trace, begin_trace
from conch_gateway.errors import BodyTooLargeError, StoppingError


class Observer:
    """Gives each request its id, timing headers, metrics, and an answer even to errors that nobody foresaw."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = begin_trace(scope)

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                trace.status = message["status"]
                message["headers"] = [*message["headers"], *trace.headers()]
            await send(message)

        try:
            await self._answer(trace, scope, receive, send_marked)
        finally:
            self._metrics.record(trace, getattr(scope.get("route"), "path", "unmatched"))

    async def _answer(self, trace: Trace, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except (Exception, asyncio.CancelledError) as error:
            if trace.status is not None:  # the answer has begun; only breaking the connection tells the truth
                raise
            # uvicorn cancels what outlasts the grace period: this task's last act is to tell the caller to come again.
            told = error if isinstance(error, Exception) else StoppingError("the gateway is stopping; retry elsewhere")
            response = await error_response(Request(scope), told)
            await response(scope, receive, send)


class BodyLimit:
    """Stops reading a body at `max_bytes`, with or without a Content-Length.

    The error is raised where the endpoint reads, so that it is answered in the endpoint's dialect.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        received = _declared_bytes(scope) if scope["type"] == "http" else 0
        if received > self._max_bytes:
            await self._app(scope, self._refuse, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                await self._refuse()
            return message

        await self._app(scope, receive_limited, send)

    async def _refuse(self) -> Message:
        msg = f"the body is larger than {self._max_bytes} bytes; send fewer or shorter texts in one request"
        raise BodyTooLargeError(msg)


def _declared_bytes(scope: Scope) -> int:
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(declared[:19]) if declared.isdigit() else 0  # 19 digits of a longer number are too many already
