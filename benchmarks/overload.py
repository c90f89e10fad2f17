"""A gateway at ten times its capacity, and with long lists beside single queries; `results/overload.json`.

    python benchmarks/overload.py [--seconds 60] [--repository model_repository]

starts `conch serve` with its defaults and asks over HTTP, from this process, which takes part of the same cores:

- capacity: closed loop, requests of 8 texts, before and after the overload, because machines drift: their mean counts.
- overload: ten times as many such requests a second, whatever comes back, each on a connection of its own, and nobody
  waits as long as told to. Goodput is what is answered meanwhile.
- fairness: single queries with random pauses, alone and beside callers who send 64 texts at a time without a pause.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from conch.load.closed_loop import Done, Load, closed_loop, percentile
from conch.load.http import Address, Connection, HttpError
from conch.load.texts import Lengths, synthetic_texts

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import deployments  # noqa: E402 - the folder of the script is not its package's
from benchmarks.disturbance import Disturbance  # noqa: E402
from benchmarks.machine import keep  # noqa: E402

if TYPE_CHECKING:
    from benchmarks.servers import Server

RESULT = ROOT / "benchmarks" / "results" / "overload.json"
TIMES = 10
TEXTS = 8
BULK_TEXTS = 64
BULK_CALLERS = (1, 4)
CLIENTS = 16
PAUSE_S = 0.02
WARM_UP_S = 2.0


@dataclass
class Overload:
    """Outcome of requests that are sent whether or not earlier ones are answered (open loop)."""

    sent: int = 0
    answered_texts: int = 0
    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)


class Asker:
    """Requests to one gateway, built before the measurement."""

    def __init__(self, url: str, size: int, lengths: Lengths) -> None:
        self._address = Address.of(f"{url}/v1/embeddings")
        texts = synthetic_texts(lengths)
        parts = [texts[begin : begin + size] for begin in range(0, len(texts), size)]
        bodies = [json.dumps({"input": part, "encoding_format": "base64"}).encode() for part in parts]
        self._requests = [self._address.request("POST", body) for body in bodies]
        self._free: list[Connection] = []
        self.size = size

    async def send(self, number: int) -> Done:
        """Send one on an idle connection, and wait for the answer."""
        connection = self._free.pop() if self._free else Connection(self._address)
        try:
            await connection.send(self._requests[number % len(self._requests)])
        finally:
            self._free.append(connection)
        return Done(self.size, 0)

    def close(self) -> None:
        """Hang up."""
        for connection in self._free:
            connection.close()


async def overload(asker: Asker, per_s: float, seconds: float, server: Server) -> Overload:
    """Send that many requests per second, at random moments, and count the answers until the end."""
    seen, tasks, begin = Overload(), set(), time.perf_counter()

    async def one(number: int) -> None:
        sent = time.perf_counter()
        try:
            await asker.send(number)
        except HttpError as error:
            if " 429 " in str(error).split(":", 1)[0]:
                seen.refused_s.append(time.perf_counter() - sent)
            else:
                seen.others.append(str(error)[:80])
        except OSError as error:
            seen.others.append(str(error)[:80])
        else:
            seen.answered_s.append(time.perf_counter() - sent)
            seen.answered_texts += asker.size

    watching = asyncio.create_task(_watch(server, seen))
    due = begin
    while (now := time.perf_counter()) < begin + seconds:
        while due <= now:
            task = asyncio.create_task(one(seen.sent))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            seen.sent += 1
            due += random.expovariate(per_s)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    for task in (watching, *tasks):
        task.cancel()
    await asyncio.gather(watching, *tasks, return_exceptions=True)
    return seen


async def _watch(server: Server, seen: Overload) -> None:
    while True:
        seen.memory_mb.append(await asyncio.to_thread(server.first_process_mb))
        await asyncio.sleep(1.0)


async def singles(asker: Asker, seconds: float) -> list[float]:
    """Latencies of single queries, one after another with random pauses between them."""
    begin = time.perf_counter()
    latencies: list[float] = []
    for number in itertools.count():
        if (sent := time.perf_counter()) > begin + seconds:
            return latencies
        await asker.send(number)
        latencies.append(time.perf_counter() - sent)
        await asyncio.sleep(random.expovariate(1 / PAUSE_S))
    return latencies


async def measure(url: str, server: Server, seconds: float) -> dict[str, Any]:
    """Run everything on one gateway."""
    mixed, bulk, queries = (
        Asker(url, TEXTS, Lengths(4, 512, median=40)),
        Asker(url, BULK_TEXTS, Lengths(4, 512, median=40)),
        Asker(url, 1, Lengths(6, 24)),
    )
    await closed_loop(mixed.send, clients=CLIENTS, seconds=WARM_UP_S)
    before = (await closed_loop(mixed.send, clients=CLIENTS, seconds=seconds / 4)).texts_per_s
    seen = await overload(mixed, TIMES * before / TEXTS, seconds, server)
    while not await _idle(queries):
        pass
    after = (await closed_loop(mixed.send, clients=CLIENTS, seconds=seconds / 4)).texts_per_s
    mixed.close()
    alone = await singles(queries, seconds / 4)
    beside = {str(callers): await _beside(queries, bulk, callers, seconds / 4) for callers in BULK_CALLERS}
    queries.close()
    bulk.close()
    return {
        "capacity_texts_per_s": {"before": round(before, 1), "after": round(after, 1)},
        "overload": _overload_report(seen, (before + after) / 2, seconds),
        "single_queries": {"alone": _latencies(alone), "beside_bulk_callers": _compared(alone, beside)},
    }


async def _idle(queries: Asker) -> bool:
    """Return whether the requests left from the overload are done."""
    sent = time.perf_counter()
    try:
        await queries.send(0)
    except HttpError:
        await asyncio.sleep(0.2)
        return False
    return time.perf_counter() - sent < PAUSE_S


async def _beside(queries: Asker, bulk: Asker, callers: int, seconds: float) -> tuple[list[float], Load]:
    loading = asyncio.create_task(closed_loop(bulk.send, clients=callers, seconds=seconds + 1))
    await asyncio.sleep(1)
    latencies = await singles(queries, seconds)
    return latencies, await loading


def _overload_report(seen: Overload, capacity: float, seconds: float) -> dict[str, Any]:
    quarter = max(1, len(seen.memory_mb) // 4)
    return {
        "offered_per_capacity": TIMES,
        "seconds": seconds,
        "requests": seen.sent,
        "answered": len(seen.answered_s),
        "refused": len(seen.refused_s),
        "other_failures": sorted(set(seen.others)),
        "goodput_per_capacity": round(seen.answered_texts / seconds / capacity, 3),
        "refused_ms": _latencies(seen.refused_s),
        "answered_ms": _latencies(seen.answered_s),
        "memory_mb": {
            "first_quarter_max": round(max(seen.memory_mb[:quarter]), 1),
            "last_quarter_max": round(max(seen.memory_mb[-quarter:]), 1),
        },
    }


def _compared(alone: list[float], beside: dict[str, tuple[list[float], Load]]) -> dict[str, Any]:
    return {
        callers: {
            **_latencies(latencies),
            "p99_per_alone": round(percentile(latencies, 99) / percentile(alone, 99), 2),
            "bulk_texts_per_s": round(load.texts_per_s, 1),
        }
        for callers, (latencies, load) in beside.items()
    }


def _latencies(values: list[float]) -> dict[str, float]:
    return {"count": len(values), **{f"p{p}": round(1e3 * percentile(values, p), 2) for p in (50, 95, 99)}}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the overload; the others take a quarter each")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    arguments = parser.parse_args()
    repository = arguments.repository.resolve()
    with tempfile.TemporaryDirectory() as place, deployments.served(repository, Path(place)) as (server, url, _):
        disturbance = Disturbance()
        measured = uvloop.run(measure(url, server, arguments.seconds))
        others = disturbance.cores()
    command = f"python benchmarks/overload.py --seconds {arguments.seconds:g}"
    keep(RESULT, command, {"others_cores": others, **measured})


if __name__ == "__main__":
    main()
