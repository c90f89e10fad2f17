"""HTTP/1.1 on a connection: uvicorn's protocol, with the limits and the strictness that it leaves out.

Beyond uvicorn: an offer to upgrade is ignored and its request answered; a head has a largest size and a sender a least
speed; trailers stay out of the headers; requests sent ahead are limited in number; and what cannot be read is answered
in its turn, with a reason, on a connection that is closed only once the sender has had time to read it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httptools
import orjson
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from conch_gateway.api.route import Route
from conch_gateway.errors import INVALID, Problem
from conch_gateway.middleware.head import MAX_HEAD_BYTES, Refusal, check_head, head_too_large, head_without_offer
from conch_gateway.middleware.lingering import lingering


@dataclass(frozen=True, slots=True)
class Pace:
    """How slow a peer may be.

    Attributes:
        patience_s: a request must be whole this long after its first byte, or more by what has come of it.
        slowest: bytes that buy a sender another second, and that a reader must take in `patience_s`.
        linger_s: how long a peer may go on after its last answer.
    """

    patience_s: float = 30.0
    slowest: float = 1024.0
    linger_s: float = 5.0


_MAX_AHEAD = 100
# A chunk of one byte has a frame of five; what has much more is not there for its content.
_MAX_FRAME_BYTES_PER_BYTE = 16
_NOT_HTTP = "this is not HTTP/1.1"


class Protocol(HttpToolsProtocol):
    """One connection; `pace` is the same for all."""

    pace = Pace()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, but not for ever."""
        self._socket = transport
        super().connection_made(lingering(transport, self.pace.linger_s))
        self._running: RequestResponseCycle | None = None
        self._reading_head = self._reading_body = False
        self._message_bytes = self._body_bytes = 0
        self._refused = False
        self._unwritten = 0
        self._reader_timer: asyncio.TimerHandle | None = None
        self._sender_timer: asyncio.TimerHandle | None = None
        self._await_sender()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        super().connection_lost(exc)
        self._forget_sender()
        self._forget_reader()

    def data_received(self, data: bytes) -> None:
        """Parse what has come; a sender who was refused is not listened to."""
        if self._refused or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._message_bytes += len(data)
        try:
            self._parse(data)
            self._check_framing()
        except Refusal as refusal:
            self._refuse(refusal)
        except httptools.HttpParserError as error:
            reason = error.__context__  # what a callback raised
            self._refuse(reason if isinstance(reason, Refusal) else Refusal(400, f"{_NOT_HTTP}: {reason or error}"))

    def _parse(self, data: bytes) -> None:
        while data:
            data = self._rest_after_offer(data)

    def _rest_after_offer(self, data: bytes) -> bytes:
        """Feed the parser, which stops after a head with an offer to upgrade and takes its body for another protocol.

        A new parser gets that head without the offer. What follows it is returned.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            version, method = self.parser.get_http_version(), self.parser.get_method()
            head = head_without_offer(version, method, self.url, self.headers)
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(head)
            return data[offer.args[0] :]
        return b""

    def _check_framing(self) -> None:
        """Refuse what is all frame: a head without end, trailers, extensions of chunks."""
        frame = self._message_bytes - self._body_bytes
        if frame > MAX_HEAD_BYTES + _MAX_FRAME_BYTES_PER_BYTE * self._body_bytes:
            if self._reading_head:
                raise head_too_large()
            if self._reading_body:
                raise Refusal(400, "the chunks have more frame than content; send larger ones")

    # What the parser calls; an exception stops it.

    def on_message_begin(self) -> None:
        """Begin to count."""
        super().on_message_begin()
        self._reading_head = True
        self._message_bytes = self._body_bytes = 0  # of this read it may be the last part, which is let go uncounted
        if self._sender_timer is None:
            self._await_sender()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header of the head; trailers, which nothing here needs, could pass for some."""
        if self._reading_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head, and start or queue the request."""
        check_head(self.parser.get_http_version(), self.parser.get_method(), self.url, self.headers)
        if self.parser.should_upgrade():
            return
        if len(self.pipeline) >= _MAX_AHEAD:
            raise Refusal(400, f"at most {_MAX_AHEAD} requests may be sent ahead of their answers on one connection")
        self._reading_head, self._reading_body = False, True
        self.expect_100_continue &= self.parser.get_http_version() == "1.1"
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count, and hand on."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Nobody is waited for now."""
        if self.parser.should_upgrade():
            return
        self._reading_body = False
        self._forget_sender()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_while_open(message: Message) -> None:
                # uvloop's transport refuses writes from its close on, and tells the protocol of that only afterwards.
                cycle.disconnected |= self.transport.is_closing()
                await send(message)

            await app(scope, receive, send_while_open)

        super()._start_asgi_task(cycle, run)  # type: ignore[arg-type]

    # Slow peers

    def _await_sender(self) -> None:
        self._sender_since = self.loop.time()
        self._sender_timer = self.loop.call_later(self.pace.patience_s, self._check_sender)

    def _forget_sender(self) -> None:
        if self._sender_timer is not None:
            self._sender_timer.cancel()
            self._sender_timer = None

    def _check_sender(self) -> None:
        if self.flow.read_paused:  # it is us who do not read
            self._await_sender()
            return
        left_s = self._sender_since + self.pace.patience_s + self._message_bytes / self.pace.slowest - self.loop.time()
        if left_s > 0:
            self._sender_timer = self.loop.call_later(left_s, self._check_sender)
        elif self._reading_head or self._reading_body:
            self._refuse(Refusal(408, "the request did not come fast enough; send it again"))
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """Watch who does not read what is answered."""
        super().pause_writing()
        self._unwritten = self.transport.get_write_buffer_size()
        self._reader_timer = self.loop.call_later(self.pace.patience_s, self._check_reader)

    def resume_writing(self) -> None:
        """The answers are being read."""
        super().resume_writing()
        self._forget_reader()

    def on_response_complete(self) -> None:
        """Go on reading after the last answer, or the sender's farewell is never seen."""
        super().on_response_complete()
        if self.transport.is_closing() and not self._socket.is_closing():
            self.flow.resume_reading()

    def shutdown(self) -> None:
        """Close a connection that has nothing to answer at once, and others after their answer."""
        if self.cycle is None or self.cycle.response_complete:
            self._socket.close()
        else:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; what of the last answer has not been read by now never will be."""
        self.transport.abort()

    def _forget_reader(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _check_reader(self) -> None:
        before, self._unwritten = self._unwritten, self.transport.get_write_buffer_size()
        if before - self._unwritten < self.pace.slowest:
            self.transport.abort()
        else:
            self._reader_timer = self.loop.call_later(self.pace.patience_s, self._check_reader)

    def _refuse(self, refusal: Refusal) -> None:
        """Hear no more; answer the requests that came before this one, or this one if there are none, and close."""
        if self.transport.is_closing():
            return
        self._refused = True
        self._forget_sender()
        self.flow.resume_reading()
        broken = self.cycle if self._reading_body else None
        if broken is not None and self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
        due = [self._running, *(cycle for cycle, _ in reversed(self.pipeline))]
        unanswered = [cycle for cycle in due if cycle and cycle is not broken and not cycle.response_complete]
        if unanswered:
            unanswered[-1].keep_alive = False
            return
        if broken is not None:
            if broken.response_started:
                self.transport.close()
                return
            broken.disconnected = True
            broken.message_event.set()
        self.transport.write(_written(refusal))
        self.transport.close()


def _written(refusal: Refusal) -> bytes:
    body = orjson.dumps(Route.error_body(Problem(refusal.status, INVALID, "malformed_request", str(refusal))))
    head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    return STATUS_LINE[refusal.status] + head + body
