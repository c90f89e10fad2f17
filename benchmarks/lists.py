"""Latencies of one client: lists of texts, and searches, of two checkouts of conch by turns; `results/lists.json`.

    python benchmarks/lists.py OLD NEW [--rounds 40]

starts `conch serve` of each checkout, with the Python of its `.venv`, over one model repository, and sends each in turn
the same kind of request: lists of texts of 64 tokens, and a search, which embeds a query and then reranks 20 passages.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from conch.load.texts import Lengths, synthetic_texts

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.machine import keep  # noqa: E402 - the folder of the script is not its package's
from benchmarks.results import FOLDER  # noqa: E402
from benchmarks.servers import HOST, Server, free_ports  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL, RERANKER = "all-minilm-l6-v2", "all-minilm-l6-v2-maxsim"
LISTS = (1, 4, 8, 20)
PASSAGES, TOKENS, QUERY_TOKENS = 20, 64, 8
WARM_UP = 3


class Deployment:
    """`conch serve` of a checkout, and one client of it."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        grpc_port, port = free_ports(2)
        folder.mkdir()
        command = [
            *(str(checkout / ".venv" / "bin" / "conch"), "serve", "--repository", str(ROOT / "model_repository")),
            *("--port", str(port), "--triton-grpc-port", str(grpc_port), "--triton-metrics-port", "0"),
            *("--run-directory", str(folder / "conch")),
        ]
        asked = (f"http://{HOST}:{port}/v1/embeddings", json.dumps({"input": "ready"}).encode())
        self._server = Server(command, folder / "conch.log", asked, folder, {})
        self._http = httpx.Client(base_url=f"http://{HOST}:{port}", timeout=60, trust_env=False)

    def embed(self, texts: list[str]) -> None:
        """Embed a list in one request."""
        self._http.post("/v1/embeddings", json={"model": MODEL, "input": texts}).raise_for_status()

    def search(self, query: str, passages: list[str]) -> None:
        """Embed a query, then rerank passages."""
        self.embed([query])
        body = {"model": RERANKER, "query": query, "documents": passages}
        self._http.post("/v1/rerank", json=body).raise_for_status()

    def close(self) -> None:
        """Stop the server."""
        self._http.close()
        self._server.stop()


def measured(deployments: dict[str, Deployment], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return milliseconds by request and checkout."""
    texts, queries = _endless(TOKENS), _endless(QUERY_TOKENS)
    found: dict[str, dict[str, list[float]]] = {}
    for round_ in range(WARM_UP + rounds):
        for name, deployment in list(deployments.items())[:: 1 if round_ % 2 else -1]:
            for size in LISTS:
                asked = list(islice(texts, size))
                began = time.perf_counter()
                deployment.embed(asked)
                _note(found, f"{size} texts", name, began, round_)
            query, passages = next(queries), list(islice(texts, PASSAGES))
            began = time.perf_counter()
            deployment.search(query, passages)
            _note(found, "search", name, began, round_)
    return found


def _note(found: dict[str, dict[str, list[float]]], request: str, name: str, began: float, round_: int) -> None:
    if round_ >= WARM_UP:
        found.setdefault(request, {}).setdefault(name, []).append(1e3 * (time.perf_counter() - began))


def _endless(tokens: int) -> Iterator[str]:
    """Yield texts of about so many tokens, none of which is in a cache."""
    made = synthetic_texts(Lengths(tokens, tokens))
    return (f"{number} {made[number % len(made)]}" for number in count())


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    checkouts = {"old": arguments.old.resolve(), "new": arguments.new.resolve()}
    with tempfile.TemporaryDirectory(prefix="conch-lists-") as place, ExitStack() as stack:
        deployments = {name: Deployment(checkout, Path(place) / name) for name, checkout in checkouts.items()}
        for deployment in deployments.values():
            stack.callback(deployment.close)
        found = measured(deployments, arguments.rounds)
    rows = {
        request: {name: round(statistics.median(times), 1) for name, times in by_name.items()}
        for request, by_name in found.items()
    }
    compared = {name: _revision(checkout) for name, checkout in checkouts.items()}
    command = f"python benchmarks/lists.py OLD NEW --rounds {arguments.rounds}"
    keep(FOLDER / "lists.json", command, {"checkouts": compared, "median_ms": rows})


def _revision(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
