"""Costs of limits of Triton's queues: answers a second and latencies with and without; `results/queue_limits.json`.

    python benchmarks/queue_limits.py

serves all-MiniLM-L6-v2 (int8) on one core and on two, without limits (the default) and with `--queue 512`, to clients
of the gRPC API that each send their next text when they have the answer to the last. By turns; about four minutes.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from conch.load.closed_loop import closed_loop, percentile
from conch.load.target import target_of
from conch.load.texts import Lengths, synthetic_texts
from conch_export import Options, Queue, export, plan

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import deployments  # noqa: E402 - the folder of the script is not its package's
from benchmarks.machine import keep  # noqa: E402
from benchmarks.results import FOLDER  # noqa: E402

MODEL = "all-minilm-l6-v2"
QUEUES = {"no limits": None, "512 requests, 600 s": Queue(512)}
CORES, CLIENTS, SECONDS, ROUNDS = (1, 2), (1, 8, 32), 6.0, 2
STALLED_S = 0.45
"""Triton's batcher looks again after half a second; nothing else here takes so long with few clients."""


def main() -> None:
    """Measure by turns and write the result."""
    seen: dict[tuple[str, int, int], list[list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="conch-queues-") as name:
        for number in range(ROUNDS):
            for queue in QUEUES:
                for cores in CORES:
                    for clients, latencies in _served(Path(name), queue, cores).items():
                        seen.setdefault((queue, cores, clients), []).append(latencies)
                        print(number + 1, queue, cores, clients, len(latencies), f"{max(latencies):.3f} s at most")
    measured = [
        {"queue": queue, "cores": cores, "clients": clients, **_summary(rounds)}
        for (queue, cores, clients), rounds in seen.items()
    ]
    keep(FOLDER / "queue_limits.json", "python benchmarks/queue_limits.py", {"measured": measured})


def _served(work: Path, queue: str, cores: int) -> dict[int, list[float]]:
    """Latencies in seconds by number of clients."""
    repository = work / f"models-{list(QUEUES).index(queue)}"
    if not repository.exists():
        export(Options(MODEL, repository, late_interaction=False, plan=plan(queue=QUEUES[queue])))
    folder = Path(tempfile.mkdtemp(dir=work))
    with deployments.served(repository, folder, {"CONCH_TRITON_CORES": str(cores)}) as served:
        return {clients: asyncio.run(_asked(served.triton, clients)) for clients in CLIENTS}


async def _asked(url: str, clients: int) -> list[float]:
    texts = [[text] for text in synthetic_texts(Lengths(4, 256, median=40))]
    async with target_of(url, MODEL, texts, clients) as target:
        await closed_loop(target.send, clients=clients, seconds=1)
        return (await closed_loop(target.send, clients=clients, seconds=SECONDS)).latencies_s


def _summary(rounds: list[list[float]]) -> dict[str, Any]:
    latencies = [seconds for latencies in rounds for seconds in latencies]
    return {
        "answers_per_s": round(len(latencies) / SECONDS / len(rounds), 1),
        "p50_ms": round(1e3 * percentile(latencies, 50), 1),
        "p99_ms": round(1e3 * percentile(latencies, 99), 1),
        "most_ms": round(1e3 * max(latencies), 1),
        "stalled": sum(seconds > STALLED_S for seconds in latencies),
    }


if __name__ == "__main__":
    main()
