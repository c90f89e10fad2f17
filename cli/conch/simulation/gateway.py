"""One gateway: its own admission, queue, coalescer and routing, on a simulated event loop, over simulated replicas."""

from __future__ import annotations

import asyncio
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
from conch_client import ModelInfo, UnavailableError
from conch_client.routing import Member, Outcome, Pool
from conch_contract import Task
from conch_gateway.backends.coalescer import Coalescer, Options
from conch_gateway.scheduling.admission import Admission, Backlog
from conch_gateway.scheduling.load import loads
from conch_gateway.scheduling.sizes import CALLS_EACH, ROWS_ON_A_CPU
from conch_gateway.scheduling.slots import Slots
from conch_gateway.settings import GatewaySettings

from conch.simulation.clock import passed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch_gateway.jobs import Vectors

    from conch.simulation.cores import Thread
    from conch.simulation.costs import EngineCosts, GatewayCosts
    from conch.simulation.replica import Replica

_MODEL = ModelInfo(
    name="model", task=Task.EMBEDDING, max_length=1, max_rows=1, inputs=(), output="", tokenizer="",
    tokenizer_sha256="", tokenizer_bytes=0,
)  # fmt: skip
_OPTIONS = Options(_MODEL, None, normalize=True)
_CALLER = "everybody"


class Gateway:
    """Handles requests like the real gateway, from admission to the answer.

    Args:
        costs: costs of its event loop.
        thread: thread of its event loop.
        engine: costs of each replica.
        seed: of its random choices.
    """

    def __init__(self, costs: GatewayCosts, thread: Thread, engine: EngineCosts, seed: int = 0) -> None:
        settings = GatewaySettings.model_construct()  # the defaults, whatever the environment says
        clock = asyncio.get_running_loop().time
        self._costs = costs
        self._thread = thread
        self._engine = engine
        self._pool: Pool[Replica] = Pool(clock, draw=Random(seed).random)  # noqa: S311 - no secret
        self._members: dict[Replica, Member[Replica]] = {}
        self._slots = Slots(1, clock)
        self._backlog = Backlog(self._slots, settings.timeout_s, "CONCH_TIMEOUT_S")
        client: Any = self  # the coalescer uses only `embed` of its client
        self._coalescer = Coalescer(client, self._slots, settings.timeout_s)
        self._admission = Admission(
            self._backlog,
            max_requests=settings.max_in_flight_requests,
            max_texts=settings.max_in_flight_texts,
            max_tokens=settings.max_in_flight_tokens,
        )

    @property
    def predicted_wait_s(self) -> float:
        """Value of the metric `conch_gateway_predicted_wait_seconds`."""
        return max((load.predicted_wait_s for load in loads(self._admission).values()), default=0.0)

    @property
    def calls(self) -> int:
        """Value of the metric `conch_gateway_triton_calls`: calls under way."""
        return self._slots.under_way

    @property
    def most_calls(self) -> int:
        """Value of the metric `conch_gateway_triton_slots`: most calls at once."""
        return self._slots.calls

    @property
    def in_flight(self) -> int:
        """Requests that are admitted and not answered yet."""
        return self._admission.requests

    def add(self, replica: Replica, *, joins: bool = False) -> None:
        """Add a replica; one that ``joins`` others starts slowly."""
        member = self._pool.add(replica, joins=joins)
        member.load.parallel = self._engine.instances
        self._members[replica] = member
        self._resize()

    def remove(self, replica: Replica) -> None:
        """Send nothing more to a replica."""
        self._pool.remove(self._members.pop(replica))
        self._resize()

    async def answer(self, lengths: Sequence[int]) -> None:
        """Answer a request with texts of these lengths; raises CapacityError and ConchError."""
        rows = [_ids(length) for length in lengths]
        await passed(self._costs.path_s / 2 + self._costs.longer_s(self._thread.cores.idle_s))
        await self._thread.run(self._costs.request_s + self._costs.token_s * sum(lengths))
        with self._admission.reserve("request", _CALLER, rows) as reservation:
            reservation.join(self._backlog, lengths, self._engine.max_rows)
            await self._coalescer.embed(rows, _OPTIONS, self._engine.max_rows, reservation.entry)
        await passed(self._costs.path_s / 2)

    async def embed(self, ids: Sequence[Sequence[int]], **_: Any) -> Vectors:
        """Make a call like the client of the gateway: if a replica is lost, on another one."""
        await self._thread.run(self._costs.call_s)
        lengths, tried = [len(row) for row in ids], list[Member["Replica"]]()
        while not await self._attempt(lengths, tried):
            pass
        return np.zeros((len(ids), 1), np.float32)

    async def _attempt(self, lengths: Sequence[int], tried: list[Member[Replica]]) -> bool:
        call = self._pool.begin(sum(lengths), _fits, tried)
        if call is None:
            raise UnavailableError("no replica is left")
        outcome = Outcome.ABANDONED
        try:
            await call.member.server.infer(lengths)
            outcome = Outcome.ANSWERED
        except UnavailableError:
            outcome = Outcome.LOST
            tried.append(call.member)
            if not self._pool.may_repeat(_fits, tried):
                raise
        finally:
            self._pool.end(call, outcome)
        return outcome is Outcome.ANSWERED

    def _resize(self) -> None:
        each = CALLS_EACH * self._engine.instances * max(1, self._engine.max_rows // ROWS_ON_A_CPU)
        self._slots.resize(max(1, each * len(self._members)))


def _fits(_: Replica) -> bool:
    return True


@cache
def _ids(length: int) -> list[int]:
    return [0] * length
