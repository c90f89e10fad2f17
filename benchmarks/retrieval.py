"""What quantization costs in retrieval, by mteb's own harness; `results/retrieval.json`.

    python benchmarks/retrieval.py

serves all-MiniLM-L6-v2 in fp32 and in int8 with `conch serve`, and has mteb score the gateways, the graphs in process
and sentence-transformers: each docstring's first sentence must find the rest of it. The docstrings are those of the
installed packages, which takes some twenty minutes: with those of the standard library alone, of 1,559 queries,
rounding moves the score by 0.3 % in either direction (standard error of the mean), which is all that it may cost.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import deployments, venvs  # noqa: E402 - the folder of the script is not its package's
from benchmarks.corpora.docstrings import docstrings, modules  # noqa: E402
from benchmarks.machine import keep  # noqa: E402
from benchmarks.models import NAME, prepare  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.models import Models

RESULT = ROOT / "benchmarks" / "results" / "retrieval.json"
WORK = ROOT / ".run" / "benchmarks"
MAX_LENGTH = 256
PAIRS = 8000
TIMEOUT_S = 3600
AUTHORS = "sentence-transformers, fp32"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")


def in_process(precision: str) -> str:
    """The name of the graphs in a result."""
    return f"{precision} in process"


def through_gateway(precision: str) -> str:
    """The name of the gateway in a result."""
    return f"{precision} through the gateway"


def question_and_answer(text: str) -> tuple[str, str] | None:
    """Return first sentence and rest of a docstring; None if either is too short."""
    parts = _SENTENCE_END.split(text.strip(), maxsplit=1)
    if len(parts) < 2 or len(parts[0].split()) < 3 or len(parts[1].split()) < 5:
        return None
    return parts[0], parts[1]


def pairs(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Queries and documents of docstrings; document i answers query i, and no two of either are equal."""
    by_query: dict[str, str] = {}
    documents: set[str] = set()
    for query, document in filter(None, map(question_and_answer, texts)):
        if query not in by_query and document not in documents:
            by_query[query] = document
            documents.add(document)
    return list(by_query), list(by_query.values())


def _spread(texts: Sequence[str]) -> list[str]:
    """As many as are scored, evenly from all, so that each package has its part."""
    return [texts[index * len(texts) // PAIRS] for index in range(min(PAIRS, len(texts)))]


def scores(
    queries: Sequence[str], documents: Sequence[str], models: Mapping[str, dict[str, Any]]
) -> tuple[str, dict[str, float]]:
    """mteb's version, and the nDCG@10 that it gives each model; see `peers/mteb_worker.py` for what a model is.

    Raises:
        InstallError: mteb cannot be installed.
        RuntimeError: it failed; the message ends with what it said.
    """
    command = [str(venvs.python("mteb", sees_ours=True)), "-m", "benchmarks.peers.mteb_worker"]
    asked = json.dumps({"queries": queries, "documents": documents, "models": models})
    caches = {"HF_HOME": str(WORK / "mteb"), "MTEB_CACHE": str(WORK / "mteb")}
    done = subprocess.run(
        command,
        cwd=ROOT,
        input=asked,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env=os.environ | caches | {"HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"mteb failed: {done.stderr[-2000:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    return said["mteb"], said["ndcg_at_10"]


def graphs(models: Models, precision: str) -> dict[str, Any]:
    """The graphs of a precision as the worker takes them."""
    paths = {"encoder": models.graph(precision, "encoder"), "head": models.graph(precision, "pooling")}
    tokenizer = models.checkpoint / "tokenizer.json"
    return {**{part: str(path) for part, path in paths.items()}, "tokenizer": str(tokenizer), "max_length": MAX_LENGTH}


def measure(models: Models) -> dict[str, Any]:
    """Score everything."""
    queries, documents = map(_spread, pairs(chain.from_iterable(map(docstrings, modules()))))
    asked: dict[str, dict[str, Any]] = {AUTHORS: {"checkpoint": str(models.checkpoint)}}
    with ExitStack() as stack:
        for precision, repository in (("fp32", models.fp32), ("int8", models.int8)):
            folder = WORK / f"retrieval-{precision}"
            folder.mkdir(parents=True, exist_ok=True)
            served = stack.enter_context(deployments.served(repository, folder))
            asked[in_process(precision)] = graphs(models, precision)
            asked[through_gateway(precision)] = {"url": served.url, "model": NAME}
        version, found = scores(queries, documents, asked)
    return {"mteb": version, "queries": len(queries), "documents": len(documents), "ndcg_at_10": found}


def main() -> None:
    """Measure and write the result."""
    found = measure(prepare(WORK))
    keep(RESULT, "python benchmarks/retrieval.py", found, **venvs.versions("mteb"))


if __name__ == "__main__":
    main()
