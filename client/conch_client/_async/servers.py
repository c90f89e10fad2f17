"""The servers of one client: what each serves is known, and each request goes to the one that will answer it first.

One server is asked for nothing but what calls need, and a call that cannot reach it waits and tries again. Of several,
each is watched: one that is gone, hangs or fails gets no calls, those under way there go to others, and it comes back
by itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from conch_contract import ConchError, InvalidInputError
from tritonclient.grpc import service_pb2 as pb

from conch_client._errors import (
    DeadlineExceededError,
    ModelNotFoundError,
    NotLoadedError,
    OverloadedError,
    RestrictedError,
    ServerError,
    UnavailableError,
)
from conch_client._transport import limits as limit
from conch_client._transport.aio import Background, Connection, Lock, Outcome, each, exclusive, records_of, sleep
from conch_client._transport.catalog import TTL_S, ModelChangedError, names_to_read
from conch_client._transport.deadline import Backoff, Deadline
from conch_client._transport.messages import SESSION_CLOSED
from conch_client._transport.replicas import Server, know, listing, refuse_what_is_away, seen
from conch_client._transport.tensors import check_answer, index_of
from conch_client.routing import Outcome as Ended
from conch_client.routing import Pool, State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from conch_contract import ModelInfo, Task

    from conch_client._transport.limits import Limits
    from conch_client._transport.targets import Targets
    from conch_client.routing import Call, Member, Replica

Result = TypeVar("Result")

_LATE = 1.5
_OF_ONE_SERVER = (UnavailableError, OverloadedError, ServerError, ModelNotFoundError, ModelChangedError)
"""Failures of a call that may be those of one server alone, as where that is just unloading the model."""


class AsyncServers:
    """Connections, readings and the choice among them."""

    def __init__(self, targets: Targets, limits: Limits) -> None:
        self._targets = targets
        self._limits = limits
        self._pool: Pool[Server[Connection]] = Pool()
        self._background = Background()
        self._opening, self._reading = Lock(), Lock()
        self._open = targets.is_one
        self._closed = False
        for address in targets.addresses:
            self._pool.add(Server(address, Connection))

    @property
    def replicas(self) -> list[Replica]:
        """Each server as it stands now."""
        return [seen(member) for member in self._pool.members]

    async def find(self, name: str | None, tasks: Sequence[Task], deadline: Deadline) -> ModelInfo:
        """The model's description, whether it is loaded or not; of several versions, that of the least busy server.

        Raises:
            UnavailableError: Only servers that are out of service have it.
        """

        def known() -> bool:
            return know(self._pool.serving, name, tasks, deadline.started_at)

        if not (self._open and known()):
            await self.retrying(lambda: self._read_unless(known, deadline), deadline)
        serving = self._pool.serving
        refuse_what_is_away(self._pool.members, serving, name, tasks)
        return listing(serving).find(name, tasks)

    async def models(self, deadline: Deadline) -> list[ModelInfo]:
        """All models, as they were a moment ago."""
        await self.retrying(lambda: self._read_unless(self._all_current, deadline), deadline)
        return self.listed

    async def models_now(self, deadline: Deadline) -> list[ModelInfo]:
        """All models, as they are now; reads once and does not retry."""
        await self._read_unless(self._all_newer_than(deadline.started_at), deadline)
        return self.listed

    @property
    def listed(self) -> list[ModelInfo]:
        """All models, by the last readings."""
        return list(listing(self._pool.serving).models.values())

    async def infer(
        self, info: ModelInfo, request: pb.ModelInferRequest, tokens: int, deadline: Deadline
    ) -> pb.ModelInferResponse:
        """The answer of a server that has that very model, after as many attempts as it takes.

        Raises:
            ModelChangedError: No server has it any more.
        """
        backoff, tried = Backoff(self._limits.retries, deadline), set[Any]()
        while True:
            try:
                call = await self._begin(info, request.model_name, tokens, tried, deadline)
                tried.add(call.member)
                return await self._infer_once(call, info, request, deadline)
            except _OF_ONE_SERVER as failure:  # noqa: PERF203
                if self._pool.may_repeat(lambda server: server.has(info), tried):
                    continue  # at another server at once
                if not isinstance(failure, UnavailableError):
                    raise
                tried.clear()
                await sleep(backoff.next_delay_s(failure))

    async def retrying(self, attempt: Callable[[], Outcome[Result]], deadline: Deadline) -> Result:
        """The result of an attempt, which is repeated while servers cannot be reached."""
        backoff = Backoff(self._limits.retries, deadline)
        while True:
            try:
                return await attempt()
            except UnavailableError as failure:  # noqa: PERF203 - a retry is just that
                await sleep(backoff.next_delay_s(failure))

    async def was_replaced(self, info: ModelInfo, deadline: Deadline) -> bool:
        """Whether a server that had that very model has another now; reads all anew."""
        had, asked_at = [one for one in self._pool.serving if one.server.has(info)], time.monotonic()
        await self._read_unless(self._all_newer_than(asked_at), deadline)
        return not had or not all(one.server.has(info) for one in had)

    def check_open(self) -> None:
        """Raises ConchError when the client was closed."""
        if self._closed:
            raise ConchError(SESSION_CLOSED)

    async def close(self) -> None:
        """Closes the connections; calls under way fail."""
        self._closed = True
        await self._background.end()
        for member in self._pool.members:
            await member.server.connection.close()

    async def _begin(
        self, info: ModelInfo, model: str, tokens: int, tried: Collection[Any], deadline: Deadline
    ) -> Call[Any]:
        call = self._pool.begin(tokens, lambda server: server.has(info), tried, model=model)
        if call is None:
            # A server that was away may have come back with another model of this name.
            await self._read_unless(lambda: all(one.server.catalog.is_valid() for one in self._pool.serving), deadline)
            call = self._pool.begin(tokens, lambda server: server.has(info), model=model)
        if call is None:
            raise ModelChangedError
        return call

    async def _infer_once(
        self, call: Call[Any], info: ModelInfo, request: pb.ModelInferRequest, deadline: Deadline
    ) -> pb.ModelInferResponse:
        server, ended = call.member.server, Ended.ABANDONED
        try:
            response = await server.connection.call("ModelInfer", request, deadline)
            check_answer(info, request, response)
            ended = Ended.ANSWERED
        except UnavailableError as failure:
            server.catalog.expire()
            ended = Ended.REFUSED if isinstance(failure, NotLoadedError) else Ended.LOST
            raise
        except (InvalidInputError, ModelNotFoundError):  # the server refused, perhaps because the model was replaced
            ended, refused_at = Ended.REFUSED, time.monotonic()
            await self._read_unless(lambda: server.catalog.is_newer_than(refused_at), deadline, [call.member])
            if not server.has(info):
                raise ModelChangedError from None
            raise
        except OverloadedError:
            ended = Ended.REFUSED
            raise
        except ServerError:
            ended = Ended.FAILED
            raise
        finally:
            self._pool.end(call, ended)
        return response

    def _all_current(self) -> bool:
        return all(member.server.catalog.is_current() for member in self._pool.serving)

    def _all_newer_than(self, asked_at: float) -> Callable[[], bool]:
        return lambda: all(one.server.catalog.is_newer_than(asked_at) for one in self._pool.serving)

    async def _read_unless(
        self,
        enough: Callable[[], bool],
        deadline: Deadline,
        members: Sequence[Member[Server[Connection]]] | None = None,
    ) -> None:
        if not self._open:
            await self._start(deadline)
        if not enough():
            async with exclusive(self._reading, deadline):
                if not enough():  # another call may have read while this one waited for the lock
                    await self._read(members or self._pool.serving, deadline)

    async def _read(self, members: Sequence[Member[Server[Connection]]], deadline: Deadline) -> None:
        """Reads all of them anew; raises if none can be read."""
        if self._targets.is_one:
            await self._read_one(members[0].server, deadline)
            return
        failures = await each(members, lambda one: self._try_to_read(one, deadline), max_in_flight=len(members))
        if failures and None not in failures:
            raise next(failure for failure in failures if failure is not None)

    async def _try_to_read(self, member: Member[Server[Connection]], deadline: Deadline) -> ConchError | None:
        server, asked_at = member.server, time.monotonic()
        timeout_s = min(limit.READ_TIMEOUT_S, deadline.remaining_s())
        try:
            await self._read_one(server, Deadline(timeout_s))
        except DeadlineExceededError as failure:
            if _is_telling(member, asked_at, timeout_s):
                self._lose(member, "unreadable")
            return UnavailableError(str(failure))  # one server that hangs is not the end of a call's time
        except ConchError as failure:
            self._lose(member, "unreadable")
            return failure
        member.load.parallel = max((count or 1 for count in server.catalog.reading.instances.values()), default=1)
        return None

    async def _read_one(self, server: Server[Connection], deadline: Deadline) -> None:
        # A reading is as old as its beginning: what changed while it ran, it may have missed.
        at = time.monotonic()
        index = await self._index(server.connection, deadline)
        configs = await each(
            names_to_read(index),
            lambda name: self._config(server.connection, name, deadline),
            max_in_flight=self._limits.max_in_flight,
        )
        server.catalog.update(at, index, [config for config in configs if config is not None])

    async def _index(self, connection: Connection, deadline: Deadline) -> pb.RepositoryIndexResponse:
        try:
            return await connection.call("RepositoryIndex", pb.RepositoryIndexRequest(), deadline)
        except RestrictedError:  # servers that load models on demand show their index only to holders of their key
            return index_of(await connection.call("ModelStatistics", pb.ModelStatisticsRequest(), deadline))

    async def _config(self, connection: Connection, name: str, deadline: Deadline) -> Any:
        try:
            return (await connection.call("ModelConfig", pb.ModelConfigRequest(name=name), deadline)).config
        except (ModelNotFoundError, NotLoadedError):  # unloaded since the index was read
            return None

    async def _start(self, deadline: Deadline) -> None:
        """Looks names up for the first time, and begins to watch."""
        async with exclusive(self._opening, deadline):
            if self._open:
                return
            self.check_open()
            found = await self._look_up(deadline)
            self.check_open()  # closing has ended what was begun by then, and nothing later
            if not found or not self._pool.members:
                hosts = ", ".join(name.host for name in self._targets.names)
                raise UnavailableError(f"{hosts} has no address now; check the name, or that a server is up")
            for member in self._pool.members:
                self._background.start(self._watch, member)
            if self._targets.names:
                self._background.start(self._keep_looking_up)
            self._open = True

    async def _keep_looking_up(self) -> None:
        while await self._background.pause(limit.LOOKUP_EVERY_S):
            known = self._pool.members
            await self._look_up(Deadline(limit.LOOKUP_TIMEOUT_S))
            for member in self._pool.members:
                if member not in known:
                    self._background.start(self._watch, member)

    async def _look_up(self, deadline: Deadline) -> bool:
        """Adds servers that the names have now, and removes the others; whether all names were found."""
        wanted, complete = list(self._targets.addresses), True
        for name in self._targets.names:
            try:
                wanted += name.addresses(await records_of(name.host, deadline), tls=self._targets.tls)
            except (OSError, DeadlineExceededError) as error:  # noqa: PERF203
                if isinstance(error, DeadlineExceededError) and not self._open:
                    raise  # a call waits for the first lookup
                # The name server may be away, which says nothing of the servers.
                complete = False
        known = {member.server.address: member for member in self._pool.members}
        for address in wanted:
            if address not in known:
                self._pool.add(Server(address, Connection), joins=bool(known))
        for address in known.keys() - set(wanted) if complete else ():
            self._pool.remove(known[address])
        return complete or bool(known)

    async def _watch(self, member: Member[Server[Connection]]) -> None:
        """Looks after one of several servers until it is removed and has answered its last call."""
        while await self._background.pause(limit.PROBE_EVERY_S):
            if member in self._pool.members:
                await self._look_after(member)
            elif not member.load.calls:
                await member.server.connection.close()
                return

    async def _look_after(self, member: Member[Server[Connection]]) -> None:
        server, asked_at = member.server, time.monotonic()
        try:
            request = pb.ServerReadyRequest()
            answer = await server.connection.call("ServerReady", request, Deadline(limit.PROBE_TIMEOUT_S))
        except DeadlineExceededError:
            if _is_telling(member, asked_at, limit.PROBE_TIMEOUT_S):
                await self._give_up(member, "hangs")
            return
        except ConchError:
            self._lose(member, "unreachable")
            return
        if member.standing.ready is not answer.ready:
            member.standing.ready = answer.ready
            server.catalog.expire()
        if self._pool.is_stalled(member):
            await self._give_up(member, "stalled")
        elif server.catalog.age_s > TTL_S / 2:
            await self._try_to_read(member, Deadline(limit.READ_TIMEOUT_S))

    async def _give_up(self, member: Member[Server[Connection]], reason: str) -> None:
        self._lose(member, reason)
        await member.server.connection.reset()

    def _lose(self, member: Member[Server[Connection]], reason: str) -> None:
        """Takes a server out until it has been read again."""
        member.server.catalog.expire()
        if member.standing.state in {State.OUT, State.TRIAL}:
            member.standing.stay_out()
        else:
            member.standing.take_out(reason)


def _is_telling(member: Member[Server[Connection]], asked_at: float, timeout_s: float) -> bool:
    """Whether a server that has not answered in time hangs.

    One that is busy makes progress meanwhile. And where the time-out itself came late, it is this process that hangs.
    """
    return member.load.finished_at < asked_at and time.monotonic() - asked_at < _LATE * timeout_s
