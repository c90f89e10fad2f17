"""Calls that several servers share: our choice beside gRPC's own policies, and what faults cost.

    python benchmarks/replicas.py [--seconds 10] [--only stand-ins|tritons]

writes `results/replicas.json`:

- stand-ins: 32 clients in a closed loop, servers that do one call after another in 20 ms: one, eight, eight of which
  one takes five times as long, eight of which one is stopped (SIGSTOP) or killed after a third of the time. Besides
  ours, gRPC's `round_robin`, and that with its outlier detection, as a service config sets them.
- cost: single calls to servers that answer at once, by turns through a client of one address and one of eight.
- tritons: three embedded Tritons behind one gateway and 32 clients whose answers are compared with known vectors, while
  each in turn is killed, stopped, restarted, and replaced by another version.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import uvloop
from conch_client import AsyncClient, ConchError
from conch_client._transport.address import Address

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import standins  # noqa: E402 - the folder of the script is not its package's
from benchmarks.disturbance import Disturbance  # noqa: E402
from benchmarks.machine import machine, revision, versions  # noqa: E402
from tests.checkpoints import Checkpoints  # noqa: E402
from tests.replicas import Load, Replicas, export_versions, vectors_of  # noqa: E402
from tests.serving import free_ports  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

RESULT = ROOT / "benchmarks" / "results" / "replicas.json"
CLIENTS, CALL_MS, SLOW, TIMEOUT_S = 32, 20.0, 5, 5.0
IDS = [list(range(3, 33))]
ROUND_ROBIN: Any = {"round_robin": {}}
OUTLIERS: Any = {
    "outlier_detection_experimental": {
        "interval": "1s",
        "baseEjectionTime": "5s",
        "maxEjectionPercent": 50,
        "failurePercentageEjection": {"threshold": 50, "minimumHosts": 3, "requestVolume": 5},
        "childPolicy": [ROUND_ROBIN],
    }
}
POLICIES = {"conch": None, "round_robin": ROUND_ROBIN, "round_robin, outlier detection": OUTLIERS}
SCENARIOS = {
    "one": ([CALL_MS], None),
    "eight": ([CALL_MS] * 8, None),
    "one of eight slow": ([CALL_MS] * 7 + [CALL_MS * SLOW], None),
    "one of eight stopped": ([CALL_MS] * 8, signal.SIGSTOP),
    "one of eight killed": ([CALL_MS] * 8, signal.SIGKILL),
}


async def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--only", choices=PARTS, help="leave the other part as it was measured before")
    options = parser.parse_args()
    parts: dict[str, Any] = json.loads(RESULT.read_text())["parts"] if RESULT.exists() else {}
    for name in [options.only] if options.only else PARTS:
        date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        parts[name] = {"date": date, "command": " ".join(sys.argv), **await PARTS[name](options.seconds)}
    result = {
        "git": revision(),
        "machine": machine(),
        "versions": versions(),
        "clients": CLIENTS,
        "call_ms": CALL_MS,
        "parts": parts,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def client_of(urls: list[str], policy: Any) -> AsyncClient:
    """Return a client of ours, or one that leaves the choice to a policy of gRPC."""
    if policy is None:
        return AsyncClient(urls, timeout_s=TIMEOUT_S)
    return AsyncClient([f"ipv4:{','.join(urls)}"], timeout_s=TIMEOUT_S)


@contextmanager
def service_config(policy: Any) -> Iterator[None]:
    """Have new channels use a policy of gRPC."""
    if policy is None:
        yield
        return
    plain = vars(Address)["options"].fget
    chosen = ("grpc.service_config", json.dumps({"loadBalancingConfig": [policy]}))
    with patch.object(Address, "options", property(lambda self: (*plain(self), chosen))):
        yield


async def stand_ins(seconds: float) -> dict[str, Any]:
    """Measure every policy, and what the choice costs."""
    runs = [
        await run(scenario, policy, seconds)
        for scenario in SCENARIOS
        for policy in (POLICIES if scenario != "one" else ["conch"])
    ]
    return {"runs": runs, "cost": await cost()}


async def run(scenario: str, policy: str, seconds: float) -> dict[str, Any]:
    """Load stand-ins, of which the last is a process of its own."""
    times, number = SCENARIOS[scenario]
    ports = free_ports(len(times))
    servers = list(zip(ports, times, strict=True))
    processes = [standins.start(part) for part in (servers[:-1], servers[-1:]) if part]
    disturbance = Disturbance()
    try:
        with service_config(POLICIES[policy]):
            async with client_of([f"127.0.0.1:{port}" for port in ports], POLICIES[policy]) as client:
                info = await client.model(standins.MODEL)
                await client.embed(IDS, model=info)
                seen = _Seen()
                strike = asyncio.create_task(_strike(processes[-1], number, seconds / 3))
                await seen.load(client, info, seconds)
                await strike
    finally:
        for process in processes:
            process.kill()
            process.wait()
    measured = {"scenario": scenario, "policy": policy, "others_cores": disturbance.cores(), **seen.summary()}
    sys.stdout.write(f"{measured}\n")
    return measured


async def _strike(process: Any, number: signal.Signals | None, after_s: float) -> None:
    await asyncio.sleep(after_s)
    if number is not None:
        process.send_signal(number)


class _Seen:
    """What clients in a closed loop have seen."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._failed: Counter[str] = Counter()
        self._elapsed_s = 0.0

    async def load(self, client: AsyncClient, info: Any, seconds: float) -> None:
        started = time.perf_counter()
        ends_at = started + seconds

        async def ask_on() -> None:
            while (began := time.perf_counter()) < ends_at:
                try:
                    await client.embed(IDS, model=info)
                except ConchError as error:
                    self._failed[type(error).__name__] += 1
                self._seconds.append(time.perf_counter() - began)

        await asyncio.gather(*(ask_on() for _ in range(CLIENTS)))
        self._elapsed_s = time.perf_counter() - started

    def summary(self) -> dict[str, Any]:
        failed = sum(self._failed.values())
        return {
            "calls_per_s": round((len(self._seconds) - failed) / self._elapsed_s, 1),
            "failed": failed,
            "errors": dict(self._failed),
            **_latencies(self._seconds),
        }


def _latencies(seconds: list[float]) -> dict[str, float]:
    p50, p99, most = np.quantile(seconds, [0.5, 0.99, 1.0]) * 1000
    return {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "max_ms": round(most, 1)}


async def cost(calls: int = 3000) -> dict[str, float]:
    """Compare single calls through one address and through eight, to servers that answer at once."""
    ports = free_ports(8)
    process = standins.start([(port, 0) for port in ports])
    urls = [f"127.0.0.1:{port}" for port in ports]
    seconds: dict[int, list[float]] = {1: [], 8: []}
    try:
        async with AsyncClient(urls[:1]) as one, AsyncClient(urls) as eight:
            clients = {1: one, 8: eight}
            info = await one.model(standins.MODEL)
            for _ in range(calls):
                for number, client in clients.items():
                    began = time.perf_counter()
                    await client.embed(IDS, model=info)
                    seconds[number].append(time.perf_counter() - began)
    finally:
        process.kill()
        process.wait()
    medians = {number: median(values[calls // 10 :]) * 1000 for number, values in seconds.items()}
    measured = {"one_ms": round(medians[1], 3), "eight_ms": round(medians[8], 3)}
    sys.stdout.write(f"cost: {measured}\n")
    return {**measured, "routing_ms": round(medians[8] - medians[1], 3)}


async def tritons(_: float) -> dict[str, Any]:
    """Let things befall three Tritons under load, however long that takes."""
    with tempfile.TemporaryDirectory(prefix="conch-replicas-") as name:
        folder = Path(name)
        replicas = Replicas(export_versions(Checkpoints(folder / "checkpoints"), folder), folder)
        with replicas:
            known = {"old": vectors_of(replicas.tritons[0].grpc_url)}
            load = Load(replicas.gateway.url, CLIENTS)
            disturbance, began = Disturbance(), time.perf_counter()
            running = asyncio.create_task(load.run())
            steps: list[dict[str, Any]] = []
            first = 0
            try:
                async for step, out_after_s in replicas.befall():
                    part = load.seconds[first:]
                    first = len(load.seconds)
                    steps.append({"step": step, "requests": len(part), "out_after_s": out_after_s, **_latencies(part)})
                    sys.stdout.write(f"{steps[-1]}\n")
            finally:
                load.end()
                await running
            known["new"] = vectors_of(replicas.tritons[0].grpc_url)
            answers = load.by_version(known)
        return {
            "steps": steps,
            "requests": len(load.seconds),
            "failed": len(load.failed),
            "errors": sorted(set(load.failed))[:5],
            "wrong": answers.pop("wrong", 0),
            "answers": dict(answers),
            "seconds": round(time.perf_counter() - began, 1),
            "others_cores": disturbance.cores(),
        }


PARTS: dict[str, Callable[[float], Awaitable[dict[str, Any]]]] = {"stand-ins": stand_ins, "tritons": tritons}

if __name__ == "__main__":
    uvloop.run(main())
