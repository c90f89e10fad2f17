"""Latencies of one client: lists of texts, and searches, of two checkouts of conch by turns; `results/lists.json`.

    python benchmarks/lists.py OLD NEW [--rounds 40]

starts `conch serve` of each checkout, with the Python of its `.venv`, over one model repository, and sends each in turn
the same kind of request: lists of texts of 64 tokens, and a search, which embeds a query and then reranks 20 passages.
"""

from __future__ import annotations

import argparse
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
from benchmarks import deployments  # noqa: E402 - the folder of the script is not its package's
from benchmarks.machine import keep  # noqa: E402
from benchmarks.results import FOLDER  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL, RERANKER = "all-minilm-l6-v2", "all-minilm-l6-v2-maxsim"
LISTS = (1, 4, 8, 20)
PASSAGES, TOKENS, QUERY_TOKENS = 20, 64, 8
WARM_UP = 3


class Deployment:
    """`conch serve` of a checkout, and one client of it; both end with the stack."""

    def __init__(self, checkout: Path, folder: Path, stack: ExitStack) -> None:
        folder.mkdir()
        models, interpreter = ROOT / "model_repository", checkout / ".venv" / "bin" / "python"
        served = stack.enter_context(deployments.served(models, folder, interpreter=interpreter))
        self._http = stack.enter_context(httpx.Client(base_url=served.url, timeout=60, trust_env=False))

    def embed(self, texts: list[str]) -> None:
        """Embed a list in one request."""
        self._http.post("/v1/embeddings", json={"model": MODEL, "input": texts}).raise_for_status()

    def search(self, query: str, passages: list[str]) -> None:
        """Embed a query, then rerank passages."""
        self.embed([query])
        body = {"model": RERANKER, "query": query, "documents": passages}
        self._http.post("/v1/rerank", json=body).raise_for_status()


def measured(both: dict[str, Deployment], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return milliseconds by request and checkout."""
    texts, queries = _endless(TOKENS), _endless(QUERY_TOKENS)
    found: dict[str, dict[str, list[float]]] = {}
    for round_ in range(WARM_UP + rounds):
        for name, deployment in list(both.items())[:: 1 if round_ % 2 else -1]:
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
        both = {name: Deployment(checkout, Path(place) / name, stack) for name, checkout in checkouts.items()}
        found = measured(both, arguments.rounds)
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
