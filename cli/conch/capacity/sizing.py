"""Finds the smallest deployment that answers a load in time, by simulation."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from conch_gateway.scheduling.sizes import CALL_TOKENS

from conch.simulation.clock import simulated
from conch.simulation.costs import FREE
from conch.simulation.deployment import Deployment, Design
from conch.simulation.load import Outcome, open_loop, poisson

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch.capacity.need import Need
    from conch.capacity.profile import Profile

BUSIEST = 0.9  # largest part of the replicas' time that a plan may use, so that a busier minute is no outage
BUSIEST_GATEWAY = 0.7  # the same for a gateway's one thread, for which every request waits twice
GROUP = 24  # most replicas that are simulated; of more, a part with its share of the load
REQUESTS = 8_000  # least requests of a simulation
_SECONDS = 1.0  # least duration of the simulated load
_SETTLING = 0.1  # part of a simulation that is not counted
_MOST_STEPS = 15  # upwards, each by a tenth; beyond four times as many, more replicas do not help


class TooSlowError(Exception):
    """No number of replicas is enough; the message says why."""


@dataclass(frozen=True)
class Simulated:
    """The simulated result of a number of replicas.

    Attributes:
        replicas: Number of Tritons.
        p50_ms: Median latency.
        p99_ms: 99th percentile of the latency.
        refused: Part of the requests that were refused or failed.
    """

    replicas: int
    p50_ms: float
    p99_ms: float
    refused: float


@dataclass(frozen=True)
class Sizing:
    """A deployment that is large enough.

    Attributes:
        texts_per_s: Rate of the load.
        tokens_mean: Mean length of a text, truncated at the model's limit.
        tokens_p99: 99th percentile of the lengths.
        truncated: Part of the texts that are longer than the model's limit.
        p99_ms: Required 99th percentile of the latency.
        replicas: Number of Tritons.
        hardware: Hardware of all of them together.
        gateways: Number of gateways; None if the profile has none.
        replica_texts_per_s: Most texts per second of one replica.
        busy: Part of the replicas' time that the load uses.
        gateway_busy: Part of the time of the gateways' threads that the load uses.
        lone_ms: Latency of a lone text of `tokens_p99`.
        chosen: Result of this deployment.
        tried: Results of the other numbers of replicas that were simulated.
        without_one: Result with one replica less; None if there is only one.
        simulated_requests: Requests in each simulation.
    """

    texts_per_s: float
    tokens_mean: float
    tokens_p99: float
    truncated: float
    p99_ms: float
    replicas: int
    hardware: dict[str, int]
    gateways: int | None
    replica_texts_per_s: float
    busy: float
    gateway_busy: float | None
    lone_ms: float
    chosen: Simulated
    tried: list[Simulated]
    without_one: Simulated | None
    simulated_requests: int


def size(profile: Profile, need: Need, say: Callable[[str], None] = lambda _: None) -> Sizing:
    """Find the fewest replicas that are enough.

    Args:
        profile: Profile of the model on the hardware of a replica.
        need: The load.
        say: Receives what is being simulated.

    Raises:
        TooSlowError: No number of replicas is enough.
    """
    return _Search(profile, need, say).sizing()


class _Search:
    def __init__(self, profile: Profile, need: Need, say: Callable[[str], None]) -> None:
        self._profile = profile
        self._need = need
        self._say = say
        self._lengths = [min(length, profile.max_length) for length in need.lengths]
        self._mean = fmean(self._lengths)
        self._tried: dict[int, Simulated] = {}
        engine, gateway = profile.engine, profile.gateway or FREE
        # Under full load, texts share calls, and a call costs least.
        self._merged = min(engine.max_rows, max(1.0, CALL_TOKENS / self._mean))
        run_s = fmean(engine.run_s([length]) for length in self._lengths) - engine.fixed_s * (1 - 1 / self._merged)
        run_s *= engine.mixed if self._merged > 1 and len(set(self._lengths)) > 1 else 1.0
        self._text_s = engine.slowdown * (run_s + engine.call_s / self._merged) / engine.instances
        # Gateways merge texts into calls only while all replicas are busy, which a plan avoids.
        self._request_s = gateway.request_s + gateway.token_s * self._mean + gateway.call_s
        self._gateways = max(1, ceil(need.per_s * self._request_s / BUSIEST_GATEWAY))

    def sizing(self) -> Sizing:
        long = float(np.percentile(self._lengths, 99))
        lone_s = self._lone_s(round(long))
        if lone_s > self._need.p99_s:
            raise TooSlowError(
                f"a lone text of {long:.0f} tokens takes {1e3 * lone_s:.0f} ms already, so no number of replicas "
                f"answers 99 % in {1e3 * self._need.p99_s:g} ms: send shorter texts, allow more time, or measure a "
                "profile on faster hardware"
            )
        replicas = self._fewest()
        known, measured = self._profile.gateway is not None, self._profile
        return Sizing(
            texts_per_s=self._need.per_s,
            tokens_mean=self._mean,
            tokens_p99=long,
            truncated=fmean(length > measured.max_length for length in self._need.lengths),
            p99_ms=1e3 * self._need.p99_s,
            replicas=replicas,
            hardware={kind: number * replicas for kind, number in measured.hardware.items()},
            gateways=self._gateways if known else None,
            replica_texts_per_s=1 / self._text_s,
            busy=self._need.per_s * self._text_s / replicas,
            gateway_busy=self._need.per_s * self._request_s / self._gateways if known else None,
            lone_ms=1e3 * lone_s,
            chosen=self._simulated(replicas),
            tried=[self._tried[number] for number in sorted(self._tried) if number != replicas],
            without_one=self._simulated(replicas - 1) if replicas > 1 else None,
            simulated_requests=self._requests(replicas),
        )

    def _lone_s(self, length: int) -> float:
        engine, gateway = self._profile.engine, self._profile.gateway or FREE
        in_gateway_s = gateway.path_s + gateway.request_s + gateway.token_s * length + gateway.call_s
        return in_gateway_s + engine.path_s + engine.call_s + engine.run_s([length])

    def _fewest(self) -> int:
        """Search upwards from the least number that keeps up, then bisect between the last two."""
        enough = too_few = max(1, ceil(self._need.per_s * self._text_s / BUSIEST)) - 1
        for _ in range(_MOST_STEPS):
            enough += max(1, round(0.1 * enough))
            if self._is_enough(enough):
                break
            too_few = enough
        else:
            raise TooSlowError(f"{enough} replicas are not enough, and more are hardly faster: allow more time")
        while enough - too_few > 1:
            middle = (enough + too_few) // 2
            enough, too_few = (middle, too_few) if self._is_enough(middle) else (enough, middle)
        return enough

    def _is_enough(self, replicas: int) -> bool:
        found = self._simulated(replicas)
        return found.p99_ms <= 1e3 * self._need.p99_s and not found.refused

    def _requests(self, replicas: int) -> int:
        return int(max(REQUESTS, _SECONDS * self._need.per_s * min(1.0, GROUP / replicas)))

    def _simulated(self, replicas: int) -> Simulated:
        if replicas not in self._tried:
            self._say(f"{replicas} replicas")
            outcome, settled_s = self._outcome(replicas)
            p50_s, p99_s = (outcome.latency_s(percent, settled_s) for percent in (50, 99))
            lost = (outcome.refused + outcome.failed) / outcome.sent
            self._tried[replicas] = Simulated(replicas, 1e3 * p50_s, 1e3 * p99_s, lost)
        return self._tried[replicas]

    def _outcome(self, replicas: int) -> tuple[Outcome, float]:
        part = min(1.0, GROUP / replicas)
        per_s, requests = self._need.per_s * part, self._requests(replicas)
        design = Design(
            self._profile.engine,
            self._profile.gateway or FREE,
            replicas=min(replicas, GROUP),
            gateways=max(1, ceil(self._gateways * part)),
        )
        load = poisson(per_s, self._lengths, seconds=requests / per_s, seed=0)

        async def run() -> Outcome:
            return await open_loop(Deployment(design), load)

        return simulated(run), _SETTLING * requests / per_s
