"""Two minutes of load with faults on `conch serve`, watched by a real Prometheus: the picture of docs/monitoring.md.

python benchmarks/monitoring.py    writes benchmarks/results/monitoring.json; `make docs` draws it
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

sys.path.insert(0, str(Path(__file__).parent.parent))
from conch_contract import usable_cores
from conch_export import Options
from conch_export.verification.texts import docstrings

from benchmarks import curves
from benchmarks.machine import measured_by
from deploy.grafana import dashboard
from deploy.prometheus import series
from deploy.prometheus.running import Prometheus
from tests.exports import export_once
from tests.serving import Serving, free_ports

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

SECONDS, STEP_S, WINDOW = 120, 2, "10s"
KILLED_AT_S, BURST = 35, (65, 85)
CALM_CLIENTS, BURST_CLIENTS, PAUSE_S = 6, 24, 0.1
MODEL = "all-minilm-l6-v2"
PANELS = (
    "Requests", "Error rate", "Latency", "Predicted wait", "Queue", "Throughput", "Cache hit rate", "Truncated texts",
    "Canary",
)  # fmt: skip
UNITS = {"reqps": "per s", "percentunit": "share", "short": "", "s": "s"}


async def main() -> None:
    """Measure and write the result."""
    with tempfile.TemporaryDirectory(prefix="conch-monitoring-") as name:
        folder = Path(name)
        export_once(Options(MODEL, folder / "models"))
        settings = {"CONCH_CACHE_MB": "16", "CONCH_CANARY_INTERVAL_S": "1"}
        serving = Serving(folder / "models", folder, CONCH_TRITON_CORES=str(usable_cores()), **settings)
        with serving:
            targets = {
                "conch-gateway": f"127.0.0.1:{serving.port}",
                "conch-triton": f"127.0.0.1:{serving.metrics_port}",
            }
            with Prometheus(folder, free_ports(1)[0], targets) as prometheus:
                await _load(serving, 5)  # so that rates have something to begin with
                began = time.time()
                await asyncio.gather(_load(serving, SECONDS), _burst(serving), _kill(serving))
                panels = [_panel(prometheus, title, began) for title in PANELS]
    result = {
        "what": f"{CALM_CLIENTS} clients send queries, lists, long texts and rankings to the default model.",
        **measured_by("python benchmarks/monitoring.py"),
        "seconds": SECONDS,
        "window": WINDOW,
        "events": [
            {"at_s": KILLED_AT_S, "what": "Triton is killed (SIGKILL)"},
            {"at_s": BURST[0], "what": f"{BURST_CLIENTS} clients come"},
            {"at_s": BURST[1], "what": "they leave"},
        ],
        "panels": panels,
    }
    text = re.sub(
        r"\[\s+([-+.\de]+),\s+([-+.\de]+)\s+\]", r"[\1, \2]", json.dumps(result, indent=1)
    )  # a point is a line
    curves.MONITORING.write_text(text + "\n", encoding="utf-8")


async def _load(serving: Serving, seconds: float) -> None:
    await _clients(serving, CALM_CLIENTS, PAUSE_S, seconds)


async def _burst(serving: Serving) -> None:
    begin, end = BURST
    await asyncio.sleep(begin)
    await _clients(serving, BURST_CLIENTS, 0, end - begin)


async def _kill(serving: Serving) -> None:
    await asyncio.sleep(KILLED_AT_S)
    serving.triton.kill()


async def _clients(serving: Serving, count: int, pause_s: float, seconds: float) -> None:
    texts, end = docstrings(), time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=serving.url, timeout=30) as http:

        async def client(number: int) -> None:
            chance = random.Random(number)
            while time.monotonic() < end:
                with contextlib.suppress(httpx.TransportError):
                    await _request(http, chance, texts)
                await asyncio.sleep(pause_s)

        await asyncio.gather(*map(client, range(count)))


def _request(http: httpx.AsyncClient, chance: random.Random, texts: Sequence[str]) -> Awaitable[httpx.Response]:
    kind = chance.random()
    if kind < 0.1:
        documents = [text[:300] for text in chance.sample(texts, 20)]
        return http.post("/v1/rerank", json={"query": "how is a file read", "documents": documents})
    if kind < 0.3:
        return http.post("/v1/embeddings", json={"input": [text[:500] for text in chance.sample(texts, 8)]})
    if kind < 0.35:
        return http.post("/v1/embeddings", json={"input": " ".join(chance.sample(texts, 5))})
    # Few queries are asked by many.
    return http.post("/v1/embeddings", json={"input": texts[int(chance.paretovariate(0.8)) % len(texts)][:100]})


def _panel(prometheus: Prometheus, title: str, began: float) -> dict[str, Any]:
    """Return a panel of the dashboard with the values of its curves."""
    panel = next(panel for panels in dashboard.ROWS.values() for panel in panels if panel.title == title)
    found: dict[str, list[list[float]]] = {}
    for legend, query in panel.queries.items():
        for each in prometheus.query_range(_over_seconds(query), began, began + SECONDS, STEP_S):
            points = [[round(at - began, 1), float(f"{float(value):.4g}")] for at, value in each["values"]]
            finite = [point for point in points if math.isfinite(point[1])]
            name = re.sub(r"\{\{(\w+)\}\}", lambda label: each["metric"].get(label[1], ""), legend)  # noqa: B023
            name = re.sub(rf"{MODEL}|127\.0\.0\.1:\d+", "", name).strip() or "MiniLM"
            if finite and each["metric"].get("model", MODEL) == MODEL:
                found[name] = finite
    return {"title": panel.title, "unit": UNITS[panel.unit], "curves": found}


def _over_seconds(query: str) -> str:
    """Return a query with what it takes from recorded rules written out, and rates over seconds instead of minutes."""
    recorded = {rule["record"]: rule["expr"] for rule in series.rules() if "record" in rule}
    name = re.sub(r"\{.*", "", query)
    query = recorded.get(name, query)
    return query.replace("$model", MODEL).replace("[5m]", f"[{WINDOW}]").replace(dashboard.RATE, WINDOW)


if __name__ == "__main__":
    asyncio.run(main())
