"""Simulates a HorizontalPodAutoscaler, which changes the number of replicas by signals of the gateways.

See https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details: for each signal the
number of replicas times signal over target, rounded up, unless they are within a tenth of each other; the largest of
these; and no fewer than any number computed in the last minutes. Signals and defaults are those of
`deploy/kubernetes/components/autoscaling-hpa`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from conch.simulation.clock import now_s

if TYPE_CHECKING:
    from conch.simulation.deployment import Deployment

_TOLERANCE = 0.1
_SAMPLE_S = 1.0  # interval of samples of how busy replicas are, which are averaged


@dataclass(frozen=True)
class Scaling:
    """Limits, targets and times.

    Attributes:
        least: Fewest replicas.
        most: Most replicas.
        wait_s: Target of the predicted wait.
        busy: Target of the calls under way, as part of the most; None to ignore this signal.
        start_s: Seconds until a new replica serves.
        every_s: Interval at which the signals are read.
        step_s: Time in which the number is at most doubled, or raised by two.
        stable_s: Time for which the computed number must have been lower before replicas are removed.
        lowered_s: Time in which at most a quarter of the replicas is removed.
    """

    least: int
    most: int
    wait_s: float = 1.0
    busy: float | None = 0.35
    start_s: float = 20.0
    every_s: float = 15.0
    step_s: float = 30.0
    stable_s: float = 300.0
    lowered_s: float = 60.0


class Moment(NamedTuple):
    """A sample: time, replicas in service, predicted wait, and how busy the replicas were."""

    at_s: float
    replicas: int
    wait_s: float
    busy: float


class Autoscaler:
    """Scales a deployment until its task is cancelled.

    Attributes:
        seen: All samples so far.
    """

    def __init__(self, deployment: Deployment, scaling: Scaling) -> None:
        self._deployment = deployment
        self._scaling = scaling
        self._starting = 0
        self._numbers: deque[tuple[float, int]] = deque()
        self._computed: deque[tuple[float, int]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self.seen: list[Moment] = []

    async def run(self) -> None:
        """Read the signals periodically, and start or drain replicas."""
        while True:
            busy = await self._busy()
            current = len(self._deployment.replicas) + self._starting
            wanted = self._limited(current, self._wanted(current, busy))
            self._numbers.append((now_s(), wanted))
            for _ in range(wanted - current):
                task = asyncio.create_task(self._start())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            for _ in range(min(current - wanted, len(self._deployment.replicas) - 1)):
                self._deployment.drain()

    async def _busy(self) -> float:
        """Wait for the next interval; return how busy the replicas were in it."""
        samples, until_s = [], now_s() + self._scaling.every_s
        while now_s() < until_s:
            await asyncio.sleep(min(_SAMPLE_S, until_s - now_s()))
            samples.append(self._deployment.busy)
        return sum(samples) / len(samples)

    def _wanted(self, current: int, busy: float) -> int:
        scaling, wait_s = self._scaling, self._deployment.predicted_wait_s
        self.seen.append(Moment(now_s(), len(self._deployment.replicas), wait_s, busy))
        signals = [wait_s / scaling.wait_s, *([] if scaling.busy is None else [busy / scaling.busy])]
        return max(current if abs(signal - 1) <= _TOLERANCE else ceil(current * signal) for signal in signals)

    def _limited(self, current: int, wanted: int) -> int:
        scaling, now = self._scaling, now_s()
        wanted = min(max(wanted, scaling.least), scaling.most)
        self._computed.append((now, wanted))
        lately = [number for at_s, number in self._computed if at_s > now - scaling.stable_s]
        if wanted >= current:
            lowest = min([current, *(number for at_s, number in self._numbers if at_s > now - scaling.step_s)])
            return max(current, min(wanted, max(2 * lowest, lowest + 2)))
        highest = max([current, *(number for at_s, number in self._numbers if at_s > now - scaling.lowered_s)])
        return min(current, max([*lately, ceil(0.75 * highest)]))

    async def _start(self) -> None:
        self._starting += 1
        await asyncio.sleep(self._scaling.start_s)
        self._starting -= 1
        self._deployment.add()
