"""What no machine here can show: hundreds of replicas, a burst, the loss of a zone; simulated from the profile.

python -m benchmarks.simulation.scenarios      reads results/capacity.json and writes results/simulated.json

Takes a quarter of an hour of a core, on as many as there are.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from conch.capacity.profile import Profile
from conch.simulation.clock import simulated
from conch.simulation.costs import FREE
from conch.simulation.deployment import Deployment, Design
from conch.simulation.load import Outcome, open_loop, poisson
from conch_client.routing import Outcome as Ended
from conch_client.routing import Pool

from benchmarks.simulation import traces
from benchmarks.simulation.autoscaling import Autoscaler, Scaling
from benchmarks.simulation.compare import MEASURED, SIMULATED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from conch.simulation.load import Request

SEED = 5
SIZES = (1, 3, 10, 30, 100, 300, 1000, 2000)
REPLICAS_A_GATEWAY = 3
POOLS = (1, 4, 16, 64, 256, 1024, 4096)
REQUESTS = 6_000
WINDOW_S = 5.0
START_S = 30.0
BURST_S, SCALED_S = (120.0, 420.0), 1200.0
ZONE_S, ZONE_SECONDS = (20.0, 50.0), 80.0


class Scenarios:
    """All of them, by the costs of one profile."""

    def __init__(self, profile: Profile) -> None:
        self._engine, self._gateway = profile.engine, profile.gateway or FREE
        self._lengths = traces.lengths()
        mean = fmean(self._lengths)
        run_s = fmean(self._engine.run_s([length]) for length in self._lengths)
        self.replica_per_s = self._engine.instances / (self._engine.slowdown * (run_s + self._engine.call_s))
        self.gateway_per_s = 1 / (self._gateway.request_s + self._gateway.token_s * mean + self._gateway.call_s)

    def one_gateway(self) -> list[dict[str, float]]:
        """Latencies by rate, of one gateway with more replicas than it can keep busy, and of two."""
        found = []
        for used in (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0):
            per_s = used * self.gateway_per_s
            replicas = max(2, round(2 * self.gateway_per_s / self.replica_per_s))
            one, two = (
                self._run(Design(self._engine, self._gateway, replicas, gateways), per_s) for gateways in (1, 2)
            )
            found.append({"per_s": per_s, "one_p99_ms": _ms(one, 99), "two_p99_ms": _ms(two, 99)})
        return found

    def size(self, replicas: int) -> dict[str, float]:
        """Latencies with so many replicas, each with the same part of the load."""
        gateways = max(1, replicas // REPLICAS_A_GATEWAY)
        per_s = 0.7 * self.replica_per_s * replicas
        each = {
            name: self._run(Design(self._engine, FREE, replicas, number), per_s, max(REQUESTS, 40 * replicas))
            for name, number in (("one_view", 1), ("many_views", gateways))
            if replicas <= 300 or name == "many_views"
        }
        row = {f"{name}_p{percent}_ms": _ms(run, percent) for name, run in each.items() for percent in (50, 99)}
        return {"replicas": replicas, "gateways": gateways, "per_s": per_s, **row}

    def zone(self) -> dict[str, Any]:
        """Twelve replicas lose a third of them for half a minute, at two loads: latency in every window of time."""
        found: dict[str, Any] = {}
        for used in (0.55, 0.75):

            async def run(used: float = used) -> Outcome:
                deployment = Deployment(Design(self._engine, FREE, replicas=12, gateways=4))
                failing = asyncio.create_task(deployment.fail(range(4), ZONE_S[0], ZONE_S[1] - ZONE_S[0]))
                load = poisson(used * 12 * self.replica_per_s, self._lengths, seconds=ZONE_SECONDS, seed=SEED)
                outcome = await open_loop(deployment, load)
                await failing
                return outcome

            outcome = simulated(run)
            lost = {"sent": outcome.sent, "refused": outcome.refused, "failed": outcome.failed}
            found[f"{used:.0%}"] = {**lost, "windows": _windows(outcome)}
        return found

    def burst(self) -> dict[str, Any]:
        """Six times the load for five minutes, met by an autoscaler as in deploy/kubernetes, and by the wait alone."""
        both = Scaling(2, 24, start_s=START_S)
        signals = {"both signals": both, "wait alone": replace(both, busy=None)}
        return {name: simulated(partial(self._scaled, each)) for name, each in signals.items()}

    async def _scaled(self, scaling: Scaling) -> dict[str, Any]:
        usual = 0.4 * 2 * self.replica_per_s
        deployment = Deployment(Design(self._engine, FREE, replicas=2, gateways=2))
        scaler = Autoscaler(deployment, scaling)
        watching = asyncio.create_task(scaler.run())
        begin, end = BURST_S
        load = [
            *poisson(usual, self._lengths, seconds=begin, seed=SEED),
            *poisson(6 * usual, self._lengths, seconds=end - begin, seed=SEED + 1, begin_s=begin),
            *poisson(usual, self._lengths, seconds=SCALED_S - end, seed=SEED + 2, begin_s=end),
        ]
        outcome = await open_loop(deployment, load)
        watching.cancel()
        lost = {"sent": outcome.sent, "refused": outcome.refused, "failed": outcome.failed}
        return {**lost, "windows": _windows(outcome, 15.0), "seen": [moment._asdict() for moment in scaler.seen]}

    def _run(self, design: Design, per_s: float, requests: int = REQUESTS) -> Outcome:
        load: Iterable[Request] = poisson(per_s, self._lengths, seconds=requests / per_s, seed=SEED)
        return simulated(lambda: open_loop(Deployment(design), load))


def choosing() -> list[dict[str, float]]:
    """Measure what it takes to choose a replica, by their number: the routing code itself, on this machine."""
    found = []
    for replicas in POOLS:
        pool: Pool[int] = Pool()
        for number in range(replicas):
            pool.add(number)
        calls = max(50, 20_000 // replicas)
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            for _ in range(calls):
                call = pool.begin(40, lambda _: True)
                assert call is not None
                pool.end(call, Ended.ANSWERED)
            best = min(best, (time.process_time() - began) / calls)
        found.append({"replicas": replicas, "microseconds": 1e6 * best})
    return found


def _windows(outcome: Outcome, window_s: float = WINDOW_S) -> list[dict[str, float]]:
    """Latencies of the requests that were sent in each window of time."""
    by_window: dict[int, list[float]] = {}
    for at_s, latency_s in zip(outcome.answered_at_s, outcome.latencies_s, strict=True):
        by_window.setdefault(int((at_s - latency_s) / window_s), []).append(latency_s)
    return [
        {"at_s": (number + 0.5) * window_s, "p50_ms": 1e3 * _at(values, 0.5), "p99_ms": 1e3 * _at(values, 0.99)}
        for number, values in sorted(by_window.items())
    ]


def _at(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def _ms(outcome: Outcome, percent: float) -> float:
    settled_s = 0.1 * max(outcome.answered_at_s)
    return 1e3 * outcome.latency_s(percent, settled_s)


def main() -> None:
    """Run them and write the result."""
    scenarios = Scenarios(Profile.of(json.loads(MEASURED.read_text(encoding="utf-8"))["single"]["profile"]))
    result = json.loads(SIMULATED.read_text(encoding="utf-8")) if SIMULATED.exists() else {}
    result["limits"] = {"replica_per_s": scenarios.replica_per_s, "gateway_per_s": scenarios.gateway_per_s}
    result["choosing"] = choosing()  # before the others, as it is timed
    with ProcessPoolExecutor() as pool:
        sizes = [pool.submit(scenarios.size, replicas) for replicas in reversed(SIZES)]  # the longest first
        steps = {step.__name__: pool.submit(step) for step in (scenarios.burst, scenarios.zone, scenarios.one_gateway)}
        result |= {name: step.result() for name, step in steps.items()}
        result["sizes"] = [row.result() for row in reversed(sizes)]
    SIMULATED.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
