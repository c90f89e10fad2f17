"""Replicas, gateways, and the load balancer in front of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import count, cycle
from typing import TYPE_CHECKING

from conch.simulation.clock import now_s
from conch.simulation.cores import Cores, Thread
from conch.simulation.costs import FREE, EngineCosts, GatewayCosts
from conch.simulation.gateway import Gateway
from conch.simulation.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Design:
    """The design of a deployment.

    Attributes:
        engine: Costs of each replica.
        gateway: Costs of each gateway.
        replicas: Number of Tritons.
        gateways: Number of gateways, each of which knows all replicas. A load balancer distributes requests in turn.
        shared_cores: Cores of one machine on which everything runs; None if each replica has a core for each of
            its instances, and each gateway one of its own.
        sender_s: Processor time on the shared cores for sending a request and reading its answer.
    """

    engine: EngineCosts
    gateway: GatewayCosts = FREE
    replicas: int = 1
    gateways: int = 1
    shared_cores: int | None = None
    sender_s: float = 0.0


class Deployment:
    """A running deployment in one simulation.

    Attributes:
        replicas: Replicas that get calls.
        gateways: All gateways.
    """

    def __init__(self, design: Design) -> None:
        self._design = design
        slowdown = design.engine.slowdown
        self._shared = None if design.shared_cores is None else Cores(design.shared_cores, slowdown)
        self._sender = Thread(self._shared) if self._shared is not None else None
        self._numbers = count()
        self.replicas: list[Replica] = []
        self.gateways = [
            Gateway(design.gateway, Thread(self._shared or Cores(1)), design.engine, seed)
            for seed in range(design.gateways)
        ]
        self._turns = cycle(self.gateways)
        for _ in range(design.replicas):
            self.add(joins=False)

    @property
    def predicted_wait_s(self) -> float:
        """The longest wait that a gateway predicts."""
        return max(gateway.predicted_wait_s for gateway in self.gateways)

    @property
    def busy(self) -> float:
        """Calls under way, as part of the most that replicas get; at 0.5 every instance has one."""
        calls = sum(gateway.calls for gateway in self.gateways)
        return calls / max(gateway.most_calls for gateway in self.gateways)

    def add(self, *, joins: bool = True) -> None:
        """Add a replica, which all gateways know at once."""
        engine = self._design.engine
        number = next(self._numbers)
        replica = Replica(
            f"triton-{number}", engine, self._shared or Cores(engine.instances, engine.slowdown, number), number
        )
        self.replicas.append(replica)
        for gateway in self.gateways:
            gateway.add(replica, joins=joins)

    def drain(self) -> None:
        """Remove the newest replica, which finishes its calls."""
        replica = self.replicas.pop()
        for gateway in self.gateways:
            gateway.remove(replica)

    async def answer(self, lengths: Sequence[int]) -> None:
        """Send a request to the next gateway; raises CapacityError and ConchError."""
        await next(self._turns).answer(lengths)
        if self._sender is not None:
            await self._sender.run(self._design.sender_s)

    async def fail(self, replicas: Sequence[int], at_s: float, for_s: float) -> None:
        """Kill replicas at `at_s`, and start them again `for_s` seconds later."""
        await asyncio.sleep(at_s - now_s())
        killed = [self.replicas[number] for number in replicas]
        for replica in killed:
            replica.end()
        await asyncio.sleep(for_s)
        for replica in killed:
            replica.begin()
