"""Connection, computation and concurrency for an event loop; ``threads`` has the same names for threads."""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio import Lock, sleep
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import grpc
import grpc.aio
from conch_contract import ConchError
from tritonclient.grpc import service_pb2_grpc

from conch_client._errors import UnavailableError, error_from_rpc
from conch_client._transport.messages import BEGUN_AGAIN, GIVEN_UP, OTHER_LOOP, SESSION_CLOSED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from conch_client._transport.address import Address
    from conch_client._transport.deadline import Deadline

__all__ = ["Background", "Computation", "Connection", "Lock", "Outcome", "each", "exclusive", "records_of", "sleep"]

Result = TypeVar("Result")
Item = TypeVar("Item")
Outcome = Awaitable
"""The type that a function returns which computes a ``Result``: here an awaitable of it."""

_THREADS = 2  # `tokenizers` uses all cores for several texts anyway; more threads would take them from the loop
_AGAIN_S = 0.5  # after which work begins again that failed in a way that nobody foresaw
_log = logging.getLogger("conch_client")


class Connection:
    """A gRPC channel to one server, which belongs to the loop of its first call.

    Attributes:
        closed: Whether it was closed.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stub: Any = None
        self.closed = False

    async def call(self, method: str, request: object, deadline: Deadline) -> Any:
        """The response to one request of Triton's service; raises the client's errors."""
        if self.closed:
            raise ConchError(SESSION_CLOSED)
        loop = asyncio.get_running_loop()
        if self._channel is None:  # made here and not in __init__, where no loop may run yet
            self._channel, self._loop = _channel(self._address), loop
            self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        if loop is not self._loop:  # gRPC would answer in the other one, which may have ended
            raise ConchError(OTHER_LOOP)
        try:
            return await _alone(getattr(self._stub, method)(request, timeout=deadline.remaining_s()))
        except grpc.RpcError as failure:
            raise error_from_rpc(failure) from failure
        except (_CutOffError, grpc.aio.UsageError) as failure:
            raise (ConchError(SESSION_CLOSED) if self.closed else UnavailableError(GIVEN_UP)) from failure

    async def reset(self) -> None:
        """Gives up the calls under way, which fail with UnavailableError; the next one connects anew."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def close(self) -> None:
        """Closes the channel; calls under way fail."""
        self.closed = True
        if self._channel is not None:
            await self._channel.close()


class Background:
    """Work that goes on beside the calls, until it ends by itself or is ended."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Starts work that pauses now and then, and begins it again after it has failed."""
        task = asyncio.ensure_future(self._kept_up(work, *arguments))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _kept_up(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        while True:
            try:
                await work(*arguments)
            except Exception:  # noqa: BLE001, PERF203 - the work shall not end with it
                _log.exception(BEGUN_AGAIN)
                await sleep(_AGAIN_S)
            else:
                return

    async def pause(self, seconds: float) -> bool:
        """Waits; whether the work shall go on then."""
        await sleep(seconds)
        return True

    async def end(self) -> None:
        """Ends all of it."""
        while tasks := set(self._tasks):  # before Python 3.11 a cancellation is lost that meets the end of a time-out
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_AGAIN_S)


async def records_of(host: str, deadline: Deadline) -> list[str]:
    """The addresses of a host; raises OSError where there are none, DeadlineExceededError where they are late."""
    with anyio.move_on_after(deadline.remaining_s()):
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return [str(record[4][0]) for record in found]
    raise deadline.exceeded()


class Computation:
    """Runs work that computes: in threads where it is heavy, so that the loop goes on."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "conch-client")

    async def run(self, work: Callable[[], Result], *, heavy: bool = True) -> Result:
        """The result of ``work``."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work) if heavy else work()

    def close(self) -> None:
        """Ends the threads when their work is done."""
        self._threads.shutdown(wait=False)


async def each(items: Sequence[Item], work: Callable[[Item], Awaitable[Result]], *, max_in_flight: int) -> list[Result]:
    """Results of all items, in their order, of which so many are worked on at once.

    The first failure ends the call, and so does cancelling it; items that were not begun never are.
    """
    if len(items) <= 1:
        return [await work(item) for item in items]
    results: dict[int, Result] = {}
    remaining = iter(enumerate(items))

    async def worker() -> None:
        # All workers share this iterator, so that each item goes to exactly one of them.
        for number, item in remaining:
            results[number] = await work(item)

    workers = [asyncio.create_task(worker()) for _ in range(min(max_in_flight, len(items)))]
    try:
        # Not `gather`, which loses a cancellation that comes together with a failure.
        done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in workers:
            task.cancel()
        # Cancelling only asks for an end; no request may outlive the call.
        await asyncio.gather(*workers, return_exceptions=True)
    return [results[number] for number in range(len(items))]


@asynccontextmanager
async def exclusive(lock: Lock, deadline: Deadline) -> AsyncIterator[None]:
    """Holds a lock; raises DeadlineExceededError when it is not free in time."""
    try:
        with anyio.fail_after(deadline.remaining_s()):
            await lock.acquire()
    except TimeoutError as failure:
        raise deadline.exceeded() from failure
    try:
        yield
    finally:
        lock.release()


class _CutOffError(Exception):
    """gRPC has cancelled a call, whose channel was closed, although nobody has cancelled the task."""


async def _alone(call: Awaitable[Result]) -> Result:
    """The result of a call in a task of its own, so that its cancellation is told from that of the caller."""
    task = asyncio.ensure_future(call)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        task.cancel()
        raise
    if task.cancelled():
        raise _CutOffError
    return task.result()


def _channel(address: Address) -> grpc.aio.Channel:
    credentials = address.credentials()
    if credentials is None:
        return grpc.aio.insecure_channel(address.url, options=address.options)
    return grpc.aio.secure_channel(address.url, credentials, options=address.options)
