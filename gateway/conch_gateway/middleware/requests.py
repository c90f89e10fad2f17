"""Pure-ASGI layers around every endpoint: one observes, one ends what nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conch_gateway.api.route import error_response
from conch_gateway.background import start
from conch_gateway.errors import DeadlineError, StoppingError
from conch_gateway.telemetry.trace import Trace, begin_trace, trace_of

Recorder = Callable[[Trace, str], None]
"""Takes what is known of a request that has ended, and its route."""

_PATIENCE_S = 0.05  # a request that is answered sooner is not watched


class Observer:
    """Gives each request its id, timing headers, records, and an answer even to errors that nobody foresaw."""

    def __init__(self, app: ASGIApp, recorders: Sequence[Recorder]) -> None:
        self._app = app
        self._recorders = recorders

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
            route = getattr(scope.get("route"), "path", "unmatched")
            for record in self._recorders:
                record(trace, route)

    async def _answer(self, trace: Trace, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except (Exception, asyncio.CancelledError) as error:
            if trace.status is not None:  # the answer has begun; only breaking the connection tells the truth
                raise
            response = await error_response(Request(scope), _told(error, trace))
            await response(scope, receive, send)


def _told(error: BaseException, trace: Trace) -> Exception:
    if isinstance(error, Exception):
        return error
    if trace.cancelled is not None:
        return trace.cancelled
    # uvicorn cancels what outlasts the grace period: this task's last act is to tell the caller to come again.
    return StoppingError("the gateway is stopping; retry elsewhere")


class Presence:
    """Cancels the work for a caller who hangs up, or whose time is up: what has not been sent to Triton never is.

    The time runs from the end of the request's body: as long as the caller says it waits, and at most `timeout_s`.
    Listening for a caller who hangs up costs a task, which a request that is over soon does not need.
    """

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        loop, working = asyncio.get_running_loop(), asyncio.current_task()
        if scope["type"] != "http" or working is None:
            await self._app(scope, receive, send)
            return
        trace = trace_of(Request(scope))
        timers: list[asyncio.TimerHandle] = []
        listening: list[asyncio.Task[None]] = []

        def cancel(reason: Exception) -> None:
            if trace.status is None and trace.cancelled is None:
                trace.cancelled = reason
                working.cancel()

        async def listen() -> None:
            if (await receive())["type"] == "http.disconnect":
                cancel(ClientDisconnect())

        async def receive_until_whole() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                timers.append(loop.call_later(_PATIENCE_S, lambda: listening.append(start(listen(), "conch-presence"))))
                late = _late(trace.timeout_s, self._timeout_s)
                timers.append(loop.call_later(min(trace.timeout_s, self._timeout_s), cancel, late))
            return message

        try:
            await self._app(scope, receive_until_whole, send)
        finally:
            for timer in timers:
                timer.cancel()
            for listener in listening:
                listener.cancel()


def _late(stated_s: float, timeout_s: float) -> DeadlineError:
    if stated_s < timeout_s:
        return DeadlineError(f"the request took longer than the {stated_s:g} s that its headers say its caller waits")
    return DeadlineError(
        f"the request took longer than {timeout_s:g} s, its waiting included; send less at once, or raise "
        "CONCH_TIMEOUT_S"
    )
