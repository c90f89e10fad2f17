"""Connection, computation and concurrency for threads; ``aio`` has the same names for an event loop."""

from __future__ import annotations

import logging
import socket
from collections import deque
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from time import sleep
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import grpc
from conch_contract import ConchError
from tritonclient.grpc import service_pb2_grpc

from conch_client._errors import UnavailableError, error_from_rpc
from conch_client._transport.messages import BEGUN_AGAIN, GIVEN_UP, SESSION_CLOSED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from conch_client._transport.address import Address
    from conch_client._transport.deadline import Deadline

__all__ = ["Background", "Computation", "Connection", "Lock", "Outcome", "each", "exclusive", "records_of", "sleep"]

Result = TypeVar("Result")
Item = TypeVar("Item")
Outcome = Annotated[Result, "at once"]
"""The type that a function returns which computes a ``Result``: here the result itself."""

_AGAIN_S = 0.5  # after which work begins again that failed in a way that nobody foresaw
_log = logging.getLogger("conch_client")


class Connection:
    """A gRPC channel to one server, which any number of threads may use.

    Attributes:
        closed: Whether it was closed.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._channel = _channel(address)
        self.closed = False

    def call(self, method: str, request: object, deadline: Deadline) -> Any:
        """The response to one request of Triton's service; raises the client's errors."""
        if self.closed:
            raise ConchError(SESSION_CLOSED)
        channel = self._channel
        try:
            return getattr(channel.stub, method)(request, timeout=deadline.remaining_s())
        except grpc.RpcError as failure:
            if channel is not self._channel:
                raise UnavailableError(GIVEN_UP) from failure
            raise error_from_rpc(failure) from failure
        except ValueError as failure:  # what gRPC raises on a closed channel
            if self.closed:  # since this call began
                raise ConchError(SESSION_CLOSED) from failure
            if channel is not self._channel:
                raise UnavailableError(GIVEN_UP) from failure
            raise

    def reset(self) -> None:
        """Gives up the calls under way, which fail with UnavailableError; the next one connects anew."""
        given_up, self._channel = self._channel, _channel(self._address)
        given_up.channel.close()
        if self.closed:  # by another thread meanwhile, which has closed the old channel only
            self._channel.channel.close()

    def close(self) -> None:
        """Closes the channel; calls under way fail."""
        self.closed = True
        self._channel.channel.close()


class Background:
    """Work that goes on beside the calls, until it ends by itself or is ended."""

    def __init__(self) -> None:
        self._ended = Event()

    def start(self, work: Callable[..., None], *arguments: object) -> None:
        """Starts work that pauses now and then, and begins it again after it has failed."""
        Thread(target=self._kept_up, args=(work, *arguments), name="conch-client-watch", daemon=True).start()

    def _kept_up(self, work: Callable[..., None], *arguments: object) -> None:
        goes_on = True
        while goes_on:
            try:
                work(*arguments)
            except Exception:  # noqa: BLE001, PERF203 - the work shall not end with it
                _log.exception(BEGUN_AGAIN)
                goes_on = self.pause(_AGAIN_S)
            else:
                return

    def pause(self, seconds: float) -> bool:
        """Waits; whether the work shall go on then."""
        return not self._ended.wait(seconds)

    def end(self) -> None:
        """Ends all of it, at the next pause."""
        self._ended.set()


def records_of(host: str, deadline: Deadline) -> list[str]:
    """The addresses of a host; raises OSError where there are none, DeadlineExceededError where they are late."""
    found: list[str] = []

    def look_up() -> None:
        with suppress(OSError):
            records = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found.extend([str(record[4][0]) for record in records])

    # Nothing ends a lookup, so one that comes too late goes on alone.
    lookup = Thread(target=look_up, name="conch-client-lookup", daemon=True)
    lookup.start()
    lookup.join(deadline.remaining_s())
    if lookup.is_alive():
        raise deadline.exceeded()
    if not found:
        raise OSError(f"{host} has no address")
    return found


class Computation:
    """Runs work that computes, in the caller's own thread."""

    def run(self, work: Callable[[], Result], *, heavy: bool = True) -> Result:  # noqa: ARG002 - matters to loops only
        """The result of ``work``."""
        return work()

    def close(self) -> None:
        """There is nothing to end."""


def each(items: Sequence[Item], work: Callable[[Item], Result], *, max_in_flight: int) -> list[Result]:
    """Results of all items, in their order, of which so many are worked on at once.

    The first failure ends the call when the items that were begun have ended; others never are begun. An interrupt
    (Ctrl-C) ends it at once.
    """
    if len(items) <= 1:
        return [work(item) for item in items]
    futures: list[Future[Result]] = [Future() for _ in items]
    waiting = deque(zip(items, futures, strict=True))

    def work_on() -> None:
        with suppress(IndexError):
            while True:
                item, future = waiting.popleft()
                try:
                    future.set_result(work(item))
                except BaseException as failure:  # noqa: BLE001 - the caller's thread raises it
                    future.set_exception(failure)
                    del future  # which leads back here by the traceback of the failure

    # Not an executor, whose threads keep the process from ending until a server that hangs has answered.
    count = min(max_in_flight, len(items))
    threads = [Thread(target=work_on, name=f"conch-client-{number}", daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        waiting.clear()
    for thread in threads:
        thread.join()
    # After a failure only these have results; the failure is among them.
    for future in done:
        future.result()
    return [future.result() for future in futures]


@contextmanager
def exclusive(lock: Lock, deadline: Deadline) -> Iterator[None]:
    """Holds a lock; raises DeadlineExceededError when it is not free in time."""
    if not lock.acquire(timeout=deadline.remaining_s()):
        raise deadline.exceeded()
    try:
        yield
    finally:
        lock.release()


class _Channel(NamedTuple):
    channel: grpc.Channel
    stub: Any


def _channel(address: Address) -> _Channel:
    credentials = address.credentials()
    if credentials is None:
        channel = grpc.insecure_channel(address.url, options=address.options)
    else:
        channel = grpc.secure_channel(address.url, credentials, options=address.options)
    return _Channel(channel, service_pb2_grpc.GRPCInferenceServiceStub(channel))
