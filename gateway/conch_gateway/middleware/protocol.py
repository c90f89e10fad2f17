"""HTTP/1.1 on a connection: uvicorn's protocol, with the limits and the strictness that it leaves out.

Beyond uvicorn: an offer to upgrade is ignored and its request answered; heads have a largest size, senders a lowest
speed, and pipelines a greatest length; trailers stay out of the headers. A message that cannot be read is answered in
its turn, with a reason, on a connection that is closed only once the sender has had time to read the answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import httptools
import orjson
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from conch_gateway.api.route import Route
from conch_gateway.errors import Problem
from conch_gateway.middleware.head import MAX_HEAD_BYTES, RefusalError, check_head, head_too_large, head_without_offer
from conch_gateway.middleware.lingering import Lingering


@dataclass(frozen=True, slots=True)
class Pace:
    """Limits of how slow a peer may be.

    Attributes:
        patience_s: a request must be whole this long after its first byte; what has arrived of it buys more time.
        slowest: bytes that buy a sender another second, and that a reader must take in `patience_s`.
        linger_s: how long a peer may go on sending after its last answer.
    """

    patience_s: float = 30.0
    slowest: float = 1024.0
    linger_s: float = 5.0


_MAX_PIPELINED = 100
# A chunk of one byte has a frame of five; a body with far more frame than content only wastes our time.
_MAX_FRAME_BYTES_PER_BYTE = 16
_NOT_HTTP = "this is not HTTP/1.1"


class Protocol(HttpToolsProtocol):
    """One connection; all connections share one `pace`."""

    pace = Pace()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, but not for ever."""
        # uvicorn gets a transport that lingers when it is closed; `_socket` is for what has to close at once.
        self._socket = transport
        lingering = Lingering(transport, self.pace.patience_s, self.pace.linger_s)
        super().connection_made(cast("asyncio.Transport", lingering))
        self._running: RequestResponseCycle | None = None
        self._reading_head = self._reading_body = False
        self._message_bytes = self._body_bytes = 0
        self._refused = False
        self._unwritten = 0
        self._reader_timer: asyncio.TimerHandle | None = None
        self._sender_timer: asyncio.TimerHandle | None = None
        self._await_sender()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered, and cancel the timers."""
        super().connection_lost(exc)
        # uvicorn tells the request that was read last.
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self._cancel_sender_timer()
        self._cancel_reader_timer()

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived; after a refusal everything is ignored."""
        if self._refused or self.transport.is_closing():
            return
        self._message_bytes += len(data)
        try:
            while data:
                data = self._rest_after_offer(data)
            self._check_framing()
        except RefusalError as refusal:
            self._refuse(refusal)
        except httptools.HttpParserError as error:
            reason = error.__context__  # what a callback raised
            unread = RefusalError(400, f"{_NOT_HTTP}: {reason or error}")
            self._refuse(reason if isinstance(reason, RefusalError) else unread)

    def _rest_after_offer(self, data: bytes) -> bytes:
        """Feed the parser; return what follows a head with an offer to upgrade.

        httptools stops after such a head and takes the body for another protocol's. So a new parser gets the head
        without the offer, and then the body.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            version, method = self.parser.get_http_version(), self.parser.get_method()
            head = head_without_offer(version, method, self.url, self.headers)
            self.parser = httptools.HttpRequestParser(self)
            # As uvicorn sets its own parser: data after a request with `connection: close` must not spoil its answer.
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            # The callbacks come again for the same request; those for the end of its head ignored the offer.
            self.parser.feed_data(head)
            return data[offer.args[0] :]
        return b""

    def _check_framing(self) -> None:
        """Refuse a message that is all frame: a head without end, trailers, extensions of chunks."""
        frame = self._message_bytes - self._body_bytes
        if frame > MAX_HEAD_BYTES + _MAX_FRAME_BYTES_PER_BYTE * self._body_bytes:
            if self._reading_head:
                raise head_too_large()
            if self._reading_body:
                raise RefusalError(400, "the chunks have more frame than content; send larger ones")

    # Callbacks of the parser, which stops at an exception.

    def on_message_begin(self) -> None:
        """Start counting bytes."""
        super().on_message_begin()
        self._reading_head = True
        # Bytes of this message that came in one read with the end of the message before are not counted.
        self._message_bytes = self._body_bytes = 0
        if self._sender_timer is None:
            self._await_sender()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header of the head; trailers, which nothing here needs, could pass for headers."""
        if self._reading_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head, and start or queue the request."""
        check_head(self.parser.get_http_version(), self.parser.get_method(), self.url, self.headers)
        if self.parser.should_upgrade():
            return
        if len(self.pipeline) >= _MAX_PIPELINED:
            msg = f"at most {_MAX_PIPELINED} requests may be sent ahead of their answers on one connection"
            raise RefusalError(400, msg)
        self._reading_head, self._reading_body = False, True
        # HTTP/1.0 knows no interim answers (RFC 9110, 10.1.1 and 15.2).
        self.expect_100_continue &= self.parser.get_http_version() == "1.1"
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count the bytes and hand them on."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the sender's clock."""
        if self.parser.should_upgrade():
            return
        self._reading_body = False
        self._cancel_sender_timer()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # uvicorn's `cycle` is the request that was read last; with pipelining an earlier one is still being answered.
        self._running = cycle

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_while_open(message: Message) -> None:
                # uvloop's transport refuses writes once it closes, before it tells the protocol.
                cycle.disconnected |= self.transport.is_closing()
                await send(message)

            await app(scope, receive, send_while_open)

        super()._start_asgi_task(cycle, run)  # type: ignore[arg-type]

    # Slow peers

    def _await_sender(self) -> None:
        self._sender_since = self.loop.time()
        self._sender_timer = self.loop.call_later(self.pace.patience_s, self._check_sender)

    def _cancel_sender_timer(self) -> None:
        if self._sender_timer is not None:
            self._sender_timer.cancel()
            self._sender_timer = None

    def _check_sender(self) -> None:
        if self.flow.read_paused:  # the sender waits for us
            self._await_sender()
            return
        left_s = self._sender_since + self.pace.patience_s + self._message_bytes / self.pace.slowest - self.loop.time()
        if left_s > 0:
            self._sender_timer = self.loop.call_later(left_s, self._check_sender)
        elif self._reading_head or self._reading_body:
            self._refuse(RefusalError(408, "the request did not come fast enough; send it again"))
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """Start watching how fast the peer reads its answers."""
        super().pause_writing()
        self._unwritten = self.transport.get_write_buffer_size()
        self._reader_timer = self.loop.call_later(self.pace.patience_s, self._check_reader)

    def resume_writing(self) -> None:
        """Stop watching: the answers have been read."""
        super().resume_writing()
        self._cancel_reader_timer()

    def _cancel_reader_timer(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _check_reader(self) -> None:
        before, self._unwritten = self._unwritten, self.transport.get_write_buffer_size()
        if before - self._unwritten < self.pace.slowest:
            # `close()` would first wait for the buffer to be read.
            self.transport.abort()
        else:
            self._reader_timer = self.loop.call_later(self.pace.patience_s, self._check_reader)

    # The end of a connection

    def on_response_complete(self) -> None:
        """Keep reading after the last answer: otherwise the peer's end of the connection would never be seen."""
        super().on_response_complete()
        # uvicorn resumes reading only where the connection stays open.
        if self.transport.is_closing() and not self._socket.is_closing():
            self.flow.resume_reading()

    def shutdown(self) -> None:
        """Close at once when there is nothing to answer, otherwise after the answer."""
        if self.cycle is None or self.cycle.response_complete:
            self._socket.close()
        else:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection.

        Data alone do not make it busy: after a blank line, or the rest of a body that was answered already, nothing
        else would ever close it.
        """
        if self._reader_timer is not None:  # the last answer is still being read, and `_check_reader` watches how fast
            again = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
            self.timeout_keep_alive_task = again
        elif self.cycle.response_complete and not self._reading_head:
            self.transport.abort()

    def _refuse(self, refusal: RefusalError) -> None:
        """Ignore all further data; close after the answers to earlier requests or, without any, with the refusal."""
        if self.transport.is_closing():
            return
        self._refused = True
        self._cancel_sender_timer()
        # Data are read and dropped: with unread data the kernel would reset the connection, and the answer be lost.
        self.flow.resume_reading()
        broken = self.cycle if self._reading_body else None
        # uvicorn puts new requests on the left of the pipeline and takes them from the right.
        if broken is not None and self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
        due = [self._running, *(cycle for cycle, _ in reversed(self.pipeline))]
        unanswered = [cycle for cycle in due if cycle and cycle is not broken and not cycle.response_complete]
        if unanswered:
            unanswered[-1].keep_alive = False
            return
        if broken is not None:
            # A second answer would be read as the rest of the first.
            if broken.response_started:
                self.transport.close()
                return
            # The endpoint may still be waiting for the body; it wakes up and sees a caller who has gone.
            broken.disconnected = True
            broken.message_event.set()
        self.transport.write(_response(refusal))
        self.transport.close()


def _response(refusal: RefusalError) -> bytes:
    body = orjson.dumps(Route.error_body(Problem(refusal.status, "malformed_request", str(refusal))))
    head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    return STATUS_LINE[refusal.status] + head + body
