"""Chunks of documents and whole documents, with a model of 137 million parameters; `results/long_documents.json`.

    python benchmarks/long_documents.py [--folder FOLDER] [--seconds 20]

serves the true shape of nomic-embed-text-v1.5 (int8, random weights; made in the folder if it is not there) with
`conch serve` at its defaults, and asks with OpenAI's SDK at its defaults, but that nothing is tried again:

- list: one request with 100 chunks of 841 tokens.
- clients: 32 requests at once, each with one such chunk.
- document: one text of 8,192 tokens.
- busy: 8 clients that send texts of 600 tokens one after another, and how many cores that keeps busy.
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

import openai
import psutil
from conch.load.texts import Lengths, synthetic_texts

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import deployments, nomic  # noqa: E402 - the folder of the script is not its package's
from benchmarks.disturbance import Disturbance  # noqa: E402
from benchmarks.machine import keep  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.servers import Server

RESULT = ROOT / "benchmarks" / "results" / "long_documents.json"
CHUNKS, CHUNK_TOKENS = 100, 841
CLIENTS, DOCUMENT_TOKENS = 32, 8192
BUSY_CLIENTS, BUSY_TOKENS = 8, 600


async def ask(client: openai.AsyncOpenAI, texts: Sequence[str]) -> tuple[str, int]:
    """Outcome of one request, with its number of tokens."""
    try:
        answer = await client.embeddings.create(model=nomic.NAME, input=list(texts))
    except openai.APIStatusError as error:
        return f"{error.status_code} {error.message[:120]}", 0
    except openai.APIError as error:
        return type(error).__name__, 0
    return "answered" if len(answer.data) == len(texts) else "incomplete", answer.usage.prompt_tokens


async def all_at_once(client: openai.AsyncOpenAI, requests: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Send requests together and wait for all."""
    began = time.perf_counter()
    outcomes = await asyncio.gather(*(ask(client, texts) for texts in requests))
    seconds = time.perf_counter() - began
    tokens = sum(count for _, count in outcomes)
    return {
        "outcomes": dict(Counter(outcome for outcome, _ in outcomes)),
        "tokens": tokens,
        "seconds": round(seconds, 1),
        "tokens_per_s": round(tokens / seconds, 1),
    }


async def busy(client: openai.AsyncOpenAI, server: Server, texts: Sequence[str], seconds: float) -> dict[str, Any]:
    """Load the server with that many clients; return the cores that it uses or, when others use them, waits for."""
    end = time.perf_counter() + seconds
    outcomes: Counter[str] = Counter()

    async def one(begin: int) -> None:
        number = begin
        while time.perf_counter() < end:
            outcome, _ = await ask(client, [texts[number % len(texts)]])
            outcomes[outcome] += time.perf_counter() < end
            number += BUSY_CLIENTS

    before = server.busy_s()
    asking = [asyncio.create_task(one(number)) for number in range(BUSY_CLIENTS)]
    await asyncio.sleep(seconds)
    ran, waited = (after - begun for begun, after in zip(before, server.busy_s(), strict=True))
    await asyncio.gather(*asking)
    return {
        "outcomes": dict(outcomes),
        "texts_per_s": round(outcomes["answered"] / seconds, 2),
        "cores": round(ran / seconds, 2),
        "cores_with_waiting_for_one": round((ran + waited) / seconds, 2),
    }


async def measure(url: str, server: Server, seconds: float) -> dict[str, Any]:
    """Run all measurements that the module lists."""
    chunks = synthetic_texts(Lengths(CHUNK_TOKENS, CHUNK_TOKENS), CHUNKS)
    texts = synthetic_texts(Lengths(BUSY_TOKENS, BUSY_TOKENS), 64)
    document = synthetic_texts(Lengths(DOCUMENT_TOKENS, DOCUMENT_TOKENS), 1)
    async with openai.AsyncOpenAI(api_key="unused", base_url=f"{url}/v1", max_retries=0) as client:
        jobs = {
            "busy": busy(client, server, texts, seconds),
            "clients": all_at_once(client, [[chunk] for chunk in chunks[:CLIENTS]]),
            "list": all_at_once(client, [chunks]),
            "document": all_at_once(client, [document]),
        }
        found = {}
        for name, job in jobs.items():
            found[name] = await job
            print(name, json.dumps(found[name]), flush=True)
        return found


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".run" / "nomic", help="of the model, about 1 GB")
    parser.add_argument("--seconds", type=float, default=20.0, help="for which the clients are kept asking")
    arguments = parser.parse_args()
    repository = nomic.exported(arguments.folder.resolve())
    with tempfile.TemporaryDirectory() as place, deployments.served(repository, Path(place)) as (server, url, _):
        disturbance = Disturbance()
        measured = asyncio.run(measure(url, server, arguments.seconds))
        others, memory = disturbance.cores(), server.memory_mb()
    command = f"python benchmarks/long_documents.py --seconds {arguments.seconds:g}"
    found = {"others_cores": others, "memory_mb": memory, **measured}
    keep(RESULT, command, found, openai=openai.__version__, psutil=psutil.__version__)


if __name__ == "__main__":
    main()
