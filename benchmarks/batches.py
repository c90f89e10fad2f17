"""A batch beside single queries, and a gateway that is killed again and again over one; `results/batches.json`.

    python benchmarks/batches.py [--seconds 20] [--kills 50] [--repository model_repository]

starts `conch serve` with its defaults and a SQLite file for batches, and measures

- how long a batch of short texts takes alone, one text in a line;
- the 99th percentile of single queries with random pauses, alone before and after, and beside such a batch;
- a second gateway before the same Triton, killed by SIGKILL at random moments while it works on a batch and started
  again: how many lines were lost, answered twice, or answered otherwise than a plain request is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvloop
from conch.load.closed_loop import percentile
from conch.load.texts import Lengths, synthetic_texts

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import deployments  # noqa: E402 - the folder of the script is not its package's
from benchmarks.disturbance import Disturbance  # noqa: E402
from benchmarks.machine import keep  # noqa: E402
from benchmarks.overload import Asker, singles  # noqa: E402
from benchmarks.servers import HOST, free_ports  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "batches.json"
LINES = 20_000
ALONE_LINES = 5_000
LONGEST_LIFE_S = 2.5  # of a gateway before it is killed, from its start on
SAME = 1e-5


def line(custom_id: str, text: str) -> str:
    """A line of an input file."""
    body = {"input": text, "encoding_format": "float"}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body})


async def create(http: httpx.AsyncClient, texts: list[str]) -> str:
    """Upload texts, one in a line, and create their batch; return its id."""
    content = "\n".join(line(str(number), text) for number, text in enumerate(texts))
    upload = await http.post("/v1/files", files={"file": ("input.jsonl", content)}, data={"purpose": "batch"})
    order = {"input_file_id": upload.json()["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
    return str((await http.post("/v1/batches", json=order)).json()["id"])


async def fetch(http: httpx.AsyncClient, batch_id: str) -> dict[str, Any]:
    """The batch as it is now."""
    found: dict[str, Any] = (await http.get(f"/v1/batches/{batch_id}")).json()
    return found


async def wait(http: httpx.AsyncClient, batch_id: str) -> dict[str, Any]:
    """The batch once it is over."""
    while True:
        batch = await fetch(http, batch_id)
        if batch["status"] in {"completed", "cancelled"}:
            return batch
        await asyncio.sleep(0.25)


async def beside(url: str, texts: list[str], seconds: float) -> dict[str, Any]:
    """A batch alone, and single queries without and beside one."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        began = time.perf_counter()
        batch = await wait(http, await create(http, texts[:ALONE_LINES]))
        batch_s = time.perf_counter() - began
        queries = Asker(url, 1, Lengths(6, 24))
        await singles(queries, 2.0)
        alone = await singles(queries, seconds / 2)
        batch_id = await create(http, texts)
        await asyncio.sleep(2)  # until it has been read
        before, began = (await fetch(http, batch_id))["request_counts"]["completed"], time.perf_counter()
        with_batch = await singles(queries, seconds)
        done = (await fetch(http, batch_id))["request_counts"]["completed"] - before
        lines_per_s = done / (time.perf_counter() - began)
        await http.post(f"/v1/batches/{batch_id}/cancel")
        await wait(http, batch_id)
        alone += await singles(queries, seconds / 2)
    queries.close()
    return {
        "batch_alone": {"lines": ALONE_LINES, "tokens": batch["usage"]["total_tokens"], "seconds": round(batch_s, 2)},
        "queries_alone_ms": _percentiles(alone),
        "queries_beside_a_batch_ms": _percentiles(with_batch),
        "p99_per_alone": round(percentile(with_batch, 99) / percentile(alone, 99), 2),
        "lines_per_s_beside_queries": round(lines_per_s, 1),
        "queries": [len(alone), len(with_batch)],
    }


def _percentiles(latencies: list[float]) -> dict[str, float]:
    return {f"p{p}": round(1e3 * percentile(latencies, p), 2) for p in (50, 99)}


class Gateway:
    """A gateway of its own before a Triton that runs already."""

    def __init__(self, folder: Path, triton: str) -> None:
        (self._port,) = free_ports(1)
        self.url = f"http://{HOST}:{self._port}"
        self._command = [str(Path(sys.executable).parent / "conch"), "serve", "--port", str(self._port)]
        self._command += ["--triton-url", triton]
        self._environment = {**os.environ, "CONCH_BATCH_DATABASE": str(folder / "killed.db")}
        self._log = folder / "killed.log"

    def start(self) -> None:
        """Start it, and return at once."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)

    async def ready(self, http: httpx.AsyncClient) -> None:
        """Wait until it answers."""
        while True:
            try:
                if (await http.get("/health/ready")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)

    def kill(self) -> None:
        """End it as the kernel would when memory runs out."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it in order."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()


async def killed(folder: Path, triton: str, kills: int, seed: int) -> dict[str, Any]:
    """Kill a gateway over batches until it has been killed so often, and look at every answer."""
    gateway, moments = Gateway(folder, triton), random.Random(seed)
    gateway.start()
    found: Counter[str] = Counter()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as http:
        while found["kills"] < kills:
            texts = [f"{seed} {found['batches']} {text}" for text in synthetic_texts(Lengths(6, 24))[:4_000]]
            await gateway.ready(http)
            batch_id = await create(http, texts)
            while found["kills"] < kills and not await _over(http, batch_id):
                await asyncio.sleep(moments.uniform(0, 1.0))
                gateway.kill()
                found["kills"] += 1
                gateway.start()
                # Whether it has opened its database by then, or even listens, is left to chance as well.
                await asyncio.sleep(moments.uniform(0, LONGEST_LIFE_S))
                if moments.random() < 0.8:
                    await gateway.ready(http)
            await gateway.ready(http)
            found += await _compared(http, await wait(http, batch_id), texts)
            found["batches"] += 1
    gateway.stop()
    return {
        name: found[name] for name in ("kills", "batches", "lines", "lost", "answered_twice", "failed", "different")
    }


async def _over(http: httpx.AsyncClient, batch_id: str) -> bool:
    try:
        return bool((await fetch(http, batch_id))["status"] == "completed")
    except httpx.TransportError:
        return False


async def _compared(http: httpx.AsyncClient, batch: dict[str, Any], texts: list[str]) -> Counter[str]:
    content = (await http.get(f"/v1/files/{batch['output_file_id']}/content")).text
    answers = [json.loads(each) for each in content.splitlines()]
    times = Counter(answer["custom_id"] for answer in answers)
    places = range(0, len(texts), len(texts) // 500)
    body = {"input": [texts[place] for place in places], "encoding_format": "float"}
    plain = (await http.post("/v1/embeddings", json=body)).json()["data"]
    vectors = {answer["custom_id"]: answer["response"]["body"]["data"][0]["embedding"] for answer in answers}
    different = sum(
        not np.allclose(vectors.get(str(place), 0), item["embedding"], atol=SAME)
        for place, item in zip(places, plain, strict=True)
    )
    return Counter(
        lines=len(texts),
        lost=sum(times[str(number)] == 0 for number in range(len(texts))),
        answered_twice=sum(count > 1 for count in times.values()),
        failed=batch["request_counts"]["failed"],
        different=different,
    )


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of single queries, alone and beside a batch")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    arguments = parser.parse_args()
    texts = synthetic_texts(Lengths(6, 24))
    texts = [f"{number} {texts[number % len(texts)]}" for number in range(LINES)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        database = {"CONCH_BATCH_DATABASE": str(folder / "batches.db")}
        with deployments.served(arguments.repository.resolve(), folder, database) as (_, url, triton):
            disturbance = Disturbance()
            measured = uvloop.run(beside(url, texts, arguments.seconds))
            others = disturbance.cores()
            measured["killed"] = uvloop.run(killed(folder, triton, arguments.kills, arguments.seed))
    command = f"python benchmarks/batches.py --seconds {arguments.seconds:g} --kills {arguments.kills}"
    keep(RESULT, command, {"others_cores": others, **measured})


if __name__ == "__main__":
    main()
