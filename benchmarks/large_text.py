"""One text of 8 MB beside single queries of other callers; `results/large_text.json`.

    python benchmarks/large_text.py [--seconds 10] [--repository model_repository]

starts `conch serve` with its defaults, and sends such a text again and again, of each kind: words, punctuation without
a gap, one word without an end, spaces, commas and brackets, an escape for each character. Told of each: what came back,
how long it took, how much more memory the gateway took, and the 99th percentile of single queries meanwhile, to alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from conch.load.closed_loop import percentile
from conch.load.http import Address, Connection, HttpError
from conch.load.texts import Lengths

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import deployments  # noqa: E402 - the folder of the script is not its package's
from benchmarks.disturbance import Disturbance  # noqa: E402
from benchmarks.machine import keep  # noqa: E402
from benchmarks.overload import Asker, singles  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.servers import Server

RESULT = ROOT / "benchmarks" / "results" / "large_text.json"
CHARACTERS = 8_000_000
PAUSE_S = 0.5  # between two such texts, so that queries run both beside and between them
KINDS: Mapping[str, str] = {
    "words": "reverse the list ",
    "punctuation": "!",
    "one word": "a",
    "spaces": " ",
    "commas and brackets": "[a,",
    "escapes": '"',
}


async def send_again_and_again(address: Address, body: bytes, took: list[float], outcomes: Counter[str]) -> None:
    """Send a body until cancelled."""
    request = address.request("POST", body)
    while True:
        connection, sent = Connection(address), time.perf_counter()
        try:
            await connection.send(request)
            outcomes["answered"] += 1
        except HttpError as error:
            outcomes[str(error)[:160]] += 1
        took.append(time.perf_counter() - sent)
        connection.close()
        await asyncio.sleep(PAUSE_S)


async def beside(queries: Asker, server: Server, address: Address, unit: str, seconds: float) -> dict[str, Any]:
    """One kind of text."""
    text = (unit * (CHARACTERS // len(unit) + 1))[: CHARACTERS // len(json.dumps(unit)[1:-1]) * len(unit)]
    took: list[float] = []
    outcomes: Counter[str] = Counter()
    server.reset_peak()
    before = server.first_process_mb()
    sending = asyncio.create_task(send_again_and_again(address, json.dumps({"input": text}).encode(), took, outcomes))
    latencies = await singles(queries, seconds)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    return {
        "outcomes": dict(outcomes),
        "longest_s": round(max(took), 3),
        "more_memory_mb": round(server.peak_mb() - before, 1),
        "single_queries_ms": {f"p{p}": round(1e3 * percentile(latencies, p), 2) for p in (50, 99)},
        "single_queries": len(latencies),
    }


async def measure(url: str, server: Server, seconds: float) -> dict[str, Any]:
    """All kinds of text, and single queries alone before and after."""
    queries, address = Asker(url, 1, Lengths(6, 24)), Address.of(f"{url}/v1/embeddings")
    await singles(queries, 1.0)
    alone = await singles(queries, seconds)
    found = {kind: await beside(queries, server, address, unit, seconds) for kind, unit in KINDS.items()}
    alone += await singles(queries, seconds)
    queries.close()
    p99 = percentile(alone, 99)
    for one in found.values():
        one["p99_per_alone"] = round(one["single_queries_ms"]["p99"] / 1e3 / p99, 2)
    return {"alone_ms": {f"p{p}": round(1e3 * percentile(alone, p), 2) for p in (50, 99)}, "beside": found}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each kind of text")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    arguments = parser.parse_args()
    repository = arguments.repository.resolve()
    with tempfile.TemporaryDirectory() as place, deployments.served(repository, Path(place)) as (server, url, _):
        disturbance = Disturbance()
        measured = uvloop.run(measure(url, server, arguments.seconds))
        others = disturbance.cores()
    command = f"python benchmarks/large_text.py --seconds {arguments.seconds:g}"
    keep(RESULT, command, {"others_cores": others, **measured})


if __name__ == "__main__":
    main()
