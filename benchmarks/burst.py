"""A burst of requests on Tritons that come and go with the work: the picture of docs/autoscaling.md.

A controller does what an autoscaler of Kubernetes does, with the two signals and the formula of
deploy/kubernetes/components: it reads the gateway's /metrics, and starts and stops embedded Tritons, from none on. Each
Triton computes on a core of its own; the gateway, the controller and the senders take what they need of any. Times are
shorter than in a cluster: what takes minutes there takes seconds here.

python benchmarks/burst.py    writes benchmarks/results/burst.json; `make docs` draws it
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from conch_export import Options
from conch_export.verification.texts import docstrings

from benchmarks import curves
from benchmarks.autoscaler import WANTED_WAIT_S, Controller
from benchmarks.machine import measured_by
from tests.exports import export_once
from tests.serving import Serving
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

MODEL, CHARACTERS = "all-minilm-l6-v2", 1000  # of a text: about 220 tokens
TICK_S, CALIBRATED_S, SETTLED_S = 1.0, 8.0, 5.0
# Seconds, and the part of what one Triton can do that comes in each.
# The first calm lasts until one Triton is enough again: what waited for the first one has started a second. The burst
# leaves room in what two can do, beside the gateway and the senders on the same cores.
PHASES = (
    (3, 0.0, "nobody"),
    (32, 0.25, "some requests come"),
    (30, 1.15, "more come than one Triton can do"),
    (20, 0.25, "fewer come"),
    (16, 0.0, "none comes"),
)
STATES = re.compile(r'^conch_gateway_(predicted_wait_seconds\{model="[^"]*"\}|triton_calls|triton_slots) (\S+)$', re.M)


class Tritons:
    """Embedded Tritons with a core each, of which the first `wanted` run."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self._cores = sorted(os.sched_getaffinity(0))
        one_core = {"CONCH_TRITON_CORES": "1"}
        self._all = [Serving(repository, folder / f"triton-{core}", "--no-gateway", **one_core) for core in self._cores]
        self.addresses = [serving.grpc_url for serving in self._all]
        self._running = 0
        self.ready = 0

    async def scale(self, wanted: int) -> None:
        """Start or stop one after the other, the last first, until as many run."""
        while self._running < wanted:
            serving, core = self._all[self._running].launch(), self._cores[self._running]
            self._running += 1
            os.sched_setaffinity(serving.pid, {core})  # before it has started Triton, which inherits it
            await eventually(lambda serving=serving: "conch serves" in serving.printed)  # type: ignore[misc]
            self.ready += 1
        while self._running > wanted:
            self._running -= 1
            self.ready -= 1
            await asyncio.to_thread(self._all[self._running].stop)


@dataclass
class Answer:
    at_s: float
    took_s: float
    status: int


async def main() -> bool:
    """Measure and write the result; True if nothing was lost, and waits were short once there were enough Tritons."""
    with tempfile.TemporaryDirectory(prefix="conch-burst-") as name:
        folder = Path(name)
        export_once(Options(MODEL, folder / "models"))
        tritons = Tritons(folder / "models", folder)
        settings = {"CONCH_TRITON_URL": ",".join(tritons.addresses), "CONCH_TRITON_WAIT_S": "60"}
        with Serving(None, folder / "gateway", **settings) as gateway:
            try:
                await tritons.scale(1)
                capacity = await _capacity(gateway.url)
                await tritons.scale(0)
                print(f"one Triton answers {capacity:.1f} requests/s", flush=True)
                answers, samples = await _replay(gateway.url, tritons, capacity)
            finally:
                await tritons.scale(0)
    result = _result(capacity, answers, samples)
    curves.BURST.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["found"], indent=1))
    lost, p99_s = result["found"]["failed"], result["found"]["p99_after_scale_up_s"]
    return bool(lost == 0 and p99_s <= WANTED_WAIT_S)


async def _capacity(url: str) -> float:
    """Return the requests per second that one Triton answers when more always wait."""
    async with _client(url) as http:
        end, done = time.monotonic() + CALIBRATED_S, 0

        async def ask(number: int) -> None:
            nonlocal done
            texts = _texts(number)
            while time.monotonic() < end:
                (await http.post("/v1/embeddings", json={"input": next(texts)})).raise_for_status()
                done += 1

        await asyncio.gather(*map(ask, range(16)))
    return done / CALIBRATED_S


async def _replay(url: str, tritons: Tritons, capacity: float) -> tuple[list[Answer], list[dict[str, float]]]:
    began = time.monotonic()
    answers: list[Answer] = []
    samples: list[dict[str, float]] = []
    async with _client(url) as http:
        controlling = asyncio.create_task(_control(http, tritons, began, samples))
        sending: list[asyncio.Task[None]] = []
        chance, texts = random.Random(1), _texts(99)
        async for _ in _arrivals(began, capacity, chance):
            sending += [asyncio.create_task(_send(http, next(texts), began, answers))]
        await asyncio.gather(*sending)
        controlling.cancel()
        await asyncio.wait({controlling})
        if not controlling.cancelled():
            controlling.result()
    return answers, samples


async def _arrivals(began: float, capacity: float, chance: random.Random) -> AsyncIterator[None]:
    """Yield when a request comes: a Poisson process whose rate changes with the phases."""
    end = began
    for seconds, part, _ in PHASES:
        at, end = end, end + seconds
        while part and (at := at + chance.expovariate(part * capacity)) < end:
            await asyncio.sleep(at - time.monotonic())
            yield
        await asyncio.sleep(end - time.monotonic())


async def _send(http: httpx.AsyncClient, text: str, began: float, answers: list[Answer]) -> None:
    at = time.monotonic()
    try:
        status = (await http.post("/v1/embeddings", json={"input": text})).status_code
    except httpx.TransportError:
        status = 0
    answers.append(Answer(at - began, time.monotonic() - at, status))


async def _control(http: httpx.AsyncClient, tritons: Tritons, began: float, samples: list[dict[str, float]]) -> None:
    controller = Controller(len(tritons.addresses))
    scaling = asyncio.create_task(tritons.scale(0))
    try:
        while True:
            exposed = dict(STATES.findall((await http.get("/metrics")).text))
            wait_s = max(float(value) for name, value in exposed.items() if name.startswith("predicted"))
            busy = float(exposed["triton_calls"]) / float(exposed["triton_slots"])
            now = time.monotonic() - began
            wanted = controller.decide(now, tritons.ready, wait_s, busy)
            samples.append({"at_s": now, "ready": tritons.ready, "wanted": wanted, "wait_s": wait_s, "busy": busy})
            if scaling.done():
                scaling.result()
                scaling = asyncio.create_task(tritons.scale(wanted))
            await asyncio.sleep(TICK_S)
    finally:
        await scaling  # whoever scales next finds no Triton half started or half stopped


def _result(capacity: float, answers: list[Answer], samples: list[dict[str, float]]) -> dict[str, Any]:
    answers.sort(key=lambda answer: answer.at_s)
    seconds = sum(phase[0] for phase in PHASES)
    starts = np.cumsum([0, *(phase[0] for phase in PHASES)]).tolist()
    burst_begins, burst_ends = starts[2], starts[3]
    in_burst = [sample["at_s"] for sample in samples if sample["ready"] > 1 and sample["at_s"] > burst_begins]
    scaled_at = min(in_burst, default=math.inf)
    after = [one.took_s for one in answers if scaled_at + SETTLED_S <= one.at_s < burst_ends]
    first = next(one for one in answers if one.at_s >= starts[1])

    def sampled(name: str) -> list[list[float]]:
        return [[round(sample["at_s"], 1), float(f"{sample[name]:.4g}")] for sample in samples]

    def over_time(measure: Callable[[list[float]], float]) -> list[list[float]]:
        return _windows(answers, seconds, measure)

    return {
        "what": f"Requests with a text of {CHARACTERS} characters each, sent whether or not others were answered.",
        **measured_by("python benchmarks/burst.py"),
        "seconds": seconds,
        "stated": {"wait_s": WANTED_WAIT_S, "settled_s": SETTLED_S, "burst": PHASES[2][1]},
        "found": {
            "requests": len(answers),
            "failed": sum(answer.status != 200 for answer in answers),
            "one_triton_per_s": round(capacity, 1),
            "first_request_s": round(first.took_s, 2),
            "ready_at_burst": next(sample["ready"] for sample in samples if sample["at_s"] >= burst_begins),
            "longest_s": round(max(answer.took_s for answer in answers), 2),
            "p99_after_scale_up_s": round(float(np.quantile(after, 0.99)), 3) if after else math.inf,
        },
        "events": [{"at_s": at, "what": phase[2]} for at, phase in zip(starts[1:], PHASES[1:], strict=False)],
        "panels": [
            {"title": "Tritons", "unit": "number", "curves": {"ready": sampled("ready"), "wanted": sampled("wanted")}},
            {"title": "Predicted wait", "unit": "s", "curves": {"predicted": sampled("wait_s")}},
            {"title": "Busy slots", "unit": "share", "curves": {"busy": sampled("busy")}},
            {"title": "Requests", "unit": "per s", "curves": {"come": over_time(lambda took: len(took) / 2)}},
            {
                "title": "Latency by arrival",
                "unit": "s",
                "curves": {
                    "p99": over_time(lambda took: float(np.quantile(took, 0.99))),
                    "p50": over_time(lambda took: float(np.quantile(took, 0.5))),
                },
            },
        ],
    }  # fmt: skip


def _windows(answers: list[Answer], seconds: int, measure: Callable[[list[float]], float]) -> list[list[float]]:
    """Return a value for every two seconds in which requests came."""
    windows: dict[int, list[float]] = {}
    for answer in answers:
        windows.setdefault(int(answer.at_s // 2), []).append(answer.took_s)
    return [[2.0 * place + 1, float(f"{measure(took):.4g}")] for place, took in windows.items() if place < seconds]


def _texts(seed: int) -> Iterator[str]:
    chance, texts = random.Random(seed), docstrings()
    while True:
        yield " ".join(chance.sample(texts, 12))[:CHARACTERS]


def _client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits(max_connections=None))


if __name__ == "__main__":
    sys.exit(not asyncio.run(main()))
