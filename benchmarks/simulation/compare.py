"""Simulates the very loads that were measured, from nothing but the profile, and puts the two side by side.

python -m benchmarks.simulation.compare      reads results/capacity.json and writes results/simulated.json
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from conch.capacity.profile import Profile
from conch.simulation.clock import now_s, simulated
from conch.simulation.costs import FREE
from conch.simulation.deployment import Deployment, Design
from conch.simulation.load import Outcome, open_loop

from benchmarks.simulation import traces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conch.simulation.load import Answering, Request

FOLDER = Path(__file__).parents[1] / "results"
MEASURED, SIMULATED = FOLDER / "capacity.json", FOLDER / "simulated.json"
COMPARED = ("answered_per_s", "p50_ms", "p99_ms")


def designs(measured: dict[str, Any]) -> dict[str, Design]:
    """Return what was measured as designs: servers and the sender of the load share the cores of one machine."""
    found: dict[str, Design] = {}
    if "single" in measured:
        profile = Profile.of(measured["single"]["profile"])
        assert profile.gateway is not None
        sender_s = fmean(request.sender_ms for request in profile.requests if request.clients > 1) / 1e3
        alone_s = sender_s / profile.engine.slowdown  # it was measured while all cores were busy
        cores = measured["single"]["machine"]["cores"]
        found["single"] = Design(profile.engine, profile.gateway, shared_cores=cores, sender_s=alone_s)
        one_each = replace(profile.engine, instances=1)
        found["tritons"] = replace(found["single"], engine=one_each, replicas=3)
    if "stand-ins" in measured:
        # They wait instead of computing, so nothing here has to share a core.
        profile = Profile.of(measured["stand-ins"]["profile"])
        found["stand-ins"] = Design(profile.engine, profile.gateway or FREE, replicas=3)
    return {name: design for name, design in found.items() if name in measured}


async def closed_loop(target: Answering, lengths: Sequence[int], *, clients: int, seconds: float) -> Outcome:
    """Let clients send single texts, each as soon as its last one is answered; lengths are used in turn."""
    outcome, numbers = Outcome(), iter(range(1 << 62))

    async def client() -> None:
        while now_s() < seconds:
            await outcome.watch(target, [lengths[next(numbers) % len(lengths)]])

    await asyncio.gather(*(client() for _ in range(clients)))
    return outcome


def closed(design: Design, clients: int, seconds: float) -> Outcome:
    """Simulate clients that each wait for their answer."""
    return simulated(lambda: closed_loop(Deployment(design), traces.lengths(), clients=clients, seconds=seconds))


def opened(design: Design, requests: list[Request]) -> Outcome:
    """Simulate requests at their moments."""
    return simulated(lambda: open_loop(Deployment(design), requests))


def compare(measured: dict[str, Any]) -> dict[str, Any]:
    """Return measured and simulated figures of every load of every deployment."""
    found: dict[str, Any] = {}
    for name, design in designs(measured).items():
        of = measured[name]
        found[name] = [_beside(load, _simulated(design, load)) for load in of["loads"]]
    return found


def _simulated(design: Design, load: dict[str, Any]) -> list[Outcome]:
    """Simulate every round that counts, with the same texts, and at rates at the same moments."""
    rounds, seconds = [number for number, one in enumerate(load["rounds"]) if one["counted"]], load["seconds"]
    if "clients" in load:
        return [closed(design, load["clients"], seconds)]  # every round has the same texts
    return [opened(design, traces.trace(load["per_s"], seconds, round_)) for round_ in rounds]


def _beside(load: dict[str, Any], outcomes: list[Outcome]) -> dict[str, Any]:
    clients = load.get("clients")
    name = f"{load['per_s']:g}/s" if clients is None else f"{clients} client{'s' if clients > 1 else ''}"
    latencies = [latency for outcome in outcomes for latency in outcome.latencies_s]
    simulated_s = {
        "answered_per_s": len(latencies) / sum(max(outcome.answered_at_s) for outcome in outcomes),
        "p50_ms": 1e3 * float(np.percentile(latencies, 50)),
        "p99_ms": 1e3 * float(np.percentile(latencies, 99)),
    }
    rounds = {each: [one[each] for one in load["rounds"] if one["counted"]] for each in COMPARED}
    return {
        "load": name,
        "measured": {each: load[each] for each in COMPARED},
        "least": {each: min(values) for each, values in rounds.items()},
        "most": {each: max(values) for each, values in rounds.items()},
        "others_cores": max(one["others_cores"] for one in load["rounds"] if one["counted"]),
        "simulated": simulated_s,
    }


def main() -> None:
    """Compare, write and print."""
    found = compare(json.loads(MEASURED.read_text(encoding="utf-8")))
    result = json.loads(SIMULATED.read_text(encoding="utf-8")) if SIMULATED.exists() else {}
    result["compared"] = found
    SIMULATED.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, loads in found.items():
        for load in loads:
            pairs = [(load["measured"][each], load["simulated"][each]) for each in COMPARED]
            off = "  ".join(f"{was:8.1f} {is_:8.1f} {is_ / was - 1:+6.0%}" for was, is_ in pairs)
            print(f"{name:10} {load['load']:12} {off}")


if __name__ == "__main__":
    main()
