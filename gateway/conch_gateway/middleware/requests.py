"""Pure-ASGI layers around every endpoint: normalise the path, record the request, cancel the work of absent callers."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from math import inf

import anyio
import anyio.lowlevel
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conch_gateway.background import start
from conch_gateway.errors import DeadlineError, StoppingError
from conch_gateway.middleware.failures import error_response
from conch_gateway.telemetry.request import (
    Ended,
    begin_request,
    context_of,
    end_request,
    has_hung_up,
    note_hang_up,
    response_headers,
)

Recorder = Callable[[Ended], None]
"""Receives the record of each request that has ended."""

_SLASHES = re.compile("//+")
_PATIENCE_S = 0.05  # a request that is answered sooner is not watched


class Target:
    """Outermost layer: normalises the path of requests, and keeps all else from the layers.

    Doubled and trailing slashes name the same resource, without a redirect, which would lose a POST's body. All other
    layers, the check of API keys among them, see the plain path, which begins with that of another server in front
    (`root_path`) where there is one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        if scope["type"] != "http":  # the lifespan, in which no other layer has a part
            await scope["app"].router(scope, receive, send)
            return
        root = scope.get("root_path", "").rstrip("/")
        path = _SLASHES.sub("/", scope["path"]).removeprefix(root).rstrip("/") or "/"
        await self._app({**scope, "root_path": root, "path": root + path}, receive, send)


class Observer:
    """Gives each request its id, timing headers and records."""

    def __init__(self, app: ASGIApp, recorders: Sequence[Recorder]) -> None:
        self._app = app
        self._recorders = recorders

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        begin_request(scope)
        status: int | None = None

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *response_headers(scope)]
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        finally:
            self._record(end_request(scope, status))

    def _record(self, ended: Ended) -> None:
        # In a frame of its own: `__call__`'s is kept by its error's traceback, and would keep the error.
        for record in self._recorders:
            record(ended)


class Answerer:
    """Answers what the layers and routes within it raise, also what nobody foresaw.

    It is inside of CORS: without the headers of that, a browser would not show the answer to its page.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        begun = False

        async def send_noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except (Exception, asyncio.CancelledError) as error:
            if begun:  # only breaking the connection tells the truth
                raise
            response = error_response(Request(scope), _answerable(error))
            await response(scope, receive, send)


class Presence:
    """Cancels the work for a caller who hangs up, or whose time is up, so that nothing is computed in vain."""

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request; raises ClientDisconnect or DeadlineError where its work was cancelled."""
        stated_s = context_of(scope).timeout_s
        watch = _Watch(scope, receive, send, min(stated_s, self._timeout_s))
        try:
            with watch.work:
                await _scoped(self._app(scope, watch.receive, watch.send))
        finally:
            watch.end()
        if watch.work.cancelled_caught:
            raise ClientDisconnect if has_hung_up(scope) else _late(stated_s, self._timeout_s)


class _Watch:
    """One request's caller, from the end of the request's body to the beginning of the answer.

    Listening for a hang-up costs a task, which starts only when a request has not been answered within `_PATIENCE_S`.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, timeout_s: float) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._timeout_s = timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._listening: asyncio.Task[None] | None = None
        self._answering = False
        self.work = anyio.CancelScope()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body") and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE_S, self._start_listening)
            # The time begins here: how slowly a body may come is limited where the connection is read.
            self.work.deadline = anyio.current_time() + self._timeout_s
        return message

    async def send(self, message: Message) -> None:
        # Readers who are slow to take the answer are the connection's concern; an answer is not cut off halfway.
        self._answering, self.work.deadline = True, inf
        await self._send(message)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._listening is not None:
            self._listening.cancel()

    def _start_listening(self) -> None:
        self._listening = start(self._listen(), "conch-presence")

    async def _listen(self) -> None:
        # uvicorn says `http.disconnect` also once the answer is complete.
        if (await self._receive())["type"] == "http.disconnect" and not self._answering:
            note_hang_up(self._scope)
            self.work.cancel()


async def _scoped(work: Awaitable[None]) -> None:
    """Await work in a cancel scope; replaces a CancelledError that a library raised by that of the scope."""
    try:
        await work
    except asyncio.CancelledError:
        await anyio.lowlevel.checkpoint_if_cancelled()  # raises the scope's own if it was the scope that cancelled
        raise


def _answerable(error: Exception | asyncio.CancelledError) -> Exception:
    """Return the error to answer with. A server that stops cancels requests at the end of the grace period."""
    if isinstance(error, Exception):
        return error
    task = asyncio.current_task()
    if sys.version_info < (3, 11) or (task is not None and task.cancelling()):
        return StoppingError("the gateway is stopping; retry elsewhere")
    # This request was not cancelled, but something that it waited for was: a defect, which belongs into the log.
    unforeseen = RuntimeError("what the request waited for was cancelled")
    unforeseen.__cause__ = error
    return unforeseen


def _late(stated_s: float, timeout_s: float) -> DeadlineError:
    if stated_s < timeout_s:
        return DeadlineError(f"the request took longer than the {stated_s:g} s that its headers say its caller waits")
    return DeadlineError(
        f"the request took longer than {timeout_s:g} s, its waiting included; send less at once, or raise "
        "CONCH_TIMEOUT_S"
    )
