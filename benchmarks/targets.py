"""The targets that conch was begun with, and what is measured of them; `results/targets.json`.

    python benchmarks/targets.py

Two deployments answer searches (embed a query, rerank 20 passages of it) at their defaults: the default model with its
late-interaction reranker, and models of the shapes of e5-base and bge-reranker-base with random weights. Then one model
under two names is compared with two exports of it. About five minutes on two cores; `make docs` writes the table.
"""

from __future__ import annotations

import importlib.metadata
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from conch.load.texts import Lengths, synthetic_texts
from conch_export import Options, export
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import deployments  # noqa: E402 - the folder of the script is not its package's
from benchmarks.machine import keep  # noqa: E402
from benchmarks.markdown import table  # noqa: E402
from benchmarks.results import FOLDER  # noqa: E402
from benchmarks.true_sizes.checkpoint import made  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.servers import Server

RESULT = FOLDER / "targets.json"
SEARCHES, PASSAGES, PASSAGE_TOKENS, QUERY_TOKENS = 30, 20, 64, 8
CLIENTS, RATE_S = 16, 5.0
BASE_IMAGE_MB = 130
"""python:3.11-slim-bookworm, unpacked; the image's other layer is what pip installs."""
NAMES = ("tool-selection", "code-search")
MINILM, BASE = "MiniLM (default model)", "e5-base and bge-reranker-base"


@dataclass(frozen=True)
class Target:
    """One row of the table.

    Attributes:
        what: is measured.
        bound: as it was stated.
        key: of the measurement.
        most: value that reaches it; with `least` the other way round.
    """

    what: str
    bound: str
    key: str
    most: float | None = None
    least: float | None = None

    def cell(self, measured: dict[str, float], unit: str) -> str:
        """Return the value, and whether it reaches the target."""
        value = measured[self.key]
        reached = value <= self.most if self.most is not None else value >= (self.least or 0)
        return f"{value:,.{0 if value >= 20 else 1}f} {unit}{'' if reached else ' (missed)'}"


TARGETS = (
    (Target("cold start of `conch serve`", "< 5 s", "start_s", most=5), "s"),
    (Target(f"search: embed a query, rerank {PASSAGES} passages, median", "< 100 ms", "search_p50_ms", most=100), "ms"),
    (Target("the same, 95th percentile", "", "search_p95_ms", most=float("inf")), "ms"),
    (Target("memory of the deployment (PSS)", "< 1 GB", "memory_mb", most=1000), "MB"),
    (Target(f"single queries of {CLIENTS} clients", "> 50/s", "requests_per_s", least=50), "per s"),
)


def main() -> None:
    """Measure and write the result."""
    with tempfile.TemporaryDirectory(prefix="conch-targets-") as name:
        folder = Path(name)
        measured = {MINILM: _minilm(folder / "minilm"), BASE: _base(folder / "base")}
        names = _names(folder / "names")
    packages = round(_packages_mb("gateway", "otel"))
    found = {"measured": measured, "gateway_packages_mb": packages, "names": names}
    keep(RESULT, "python benchmarks/targets.py", found)


def _minilm(folder: Path) -> dict[str, float]:
    export(Options("all-minilm-l6-v2", folder / "models"))
    return _deployed(folder, "all-minilm-l6-v2", "all-minilm-l6-v2-maxsim")


def _base(folder: Path) -> dict[str, float]:
    for shape in ("e5-base", "bge-reranker-base"):
        export(Options(str(made(shape, folder / shape)), folder / "models", name=shape, late_interaction=False))
    return _deployed(folder, "e5-base", "bge-reranker-base")


def _deployed(folder: Path, embedding: str, reranker: str) -> dict[str, float]:
    """Start, search, ask at once, and look at the memory after all of that."""
    with _serving(folder) as (server, http):
        queries = synthetic_texts(Lengths(QUERY_TOKENS, QUERY_TOKENS))
        passages = synthetic_texts(Lengths(PASSAGE_TOKENS, PASSAGE_TOKENS))[:PASSAGES]
        searches = [_search(http, embedding, reranker, query, passages) for query in queries[: SEARCHES + 3]][3:]
        return {
            "start_s": server.start_s,
            "search_p50_ms": statistics.median(searches),
            "search_p95_ms": statistics.quantiles(searches, n=20)[-1],
            "requests_per_s": _requests_per_s(http, embedding, queries),
            "memory_mb": server.memory_mb()["pss"],
        }


def _search(http: httpx.Client, embedding: str, reranker: str, query: str, passages: list[str]) -> float:
    """Return the milliseconds that both requests of a search take, one after the other."""
    began = time.perf_counter()
    http.post("/v1/embeddings", json={"model": embedding, "input": query}).raise_for_status()
    http.post("/v1/rerank", json={"model": reranker, "query": query, "documents": passages}).raise_for_status()
    return 1e3 * (time.perf_counter() - began)


def _requests_per_s(http: httpx.Client, embedding: str, queries: list[str]) -> float:
    end = time.perf_counter() + RATE_S

    def client(first: int) -> int:
        count = 0
        while time.perf_counter() < end:
            query = queries[(first + count * CLIENTS) % len(queries)]
            http.post("/v1/embeddings", json={"model": embedding, "input": query}).raise_for_status()
            count += 1
        return count

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(client, range(CLIENTS))) / RATE_S


def _names(folder: Path) -> dict[str, dict[str, float]]:
    """Cold start and memory of one model under two names, and of two exports of it."""
    return {
        "one model under two names": _named(folder / "alias", NAMES[:1], NAMES[1:]),
        "two models": _named(folder / "exports", NAMES, ()),
    }


def _named(folder: Path, exported: tuple[str, ...], aliases: tuple[str, ...]) -> dict[str, float]:
    for name in exported:
        export(Options("all-minilm-l6-v2", folder / "models", name=name, late_interaction=False))
    models = folder / "models.toml"
    models.write_text("".join(f'[{alias}]\nmodel = "{exported[0]}"\n' for alias in aliases), encoding="utf-8")
    with _serving(folder, CONCH_MODELS_FILE=str(models)) as (server, http):
        for name in NAMES:
            texts = synthetic_texts(Lengths(4, 256, median=40))[:256]
            http.post("/v1/embeddings", json={"model": name, "input": texts}).raise_for_status()
        return {"start_s": server.start_s, "memory_mb": server.memory_mb()["pss"]}


@contextmanager
def _serving(folder: Path, **environment: str) -> Iterator[tuple[Server, httpx.Client]]:
    """`conch serve` over `folder / models`, and a client of it."""
    with (
        deployments.served(folder / "models", folder, environment) as (server, url, _),
        httpx.Client(base_url=url, timeout=60, trust_env=False) as http,
    ):
        yield server, http


def _packages_mb(*extras: str) -> float:
    """Return the MB of all files of the packages that `pip install conch[EXTRAS]` installs."""
    needed, sizes = [Requirement(f"conch[{','.join(extras)}]")], dict[str, float]()
    while needed:
        requirement = needed.pop()
        found = importlib.metadata.distribution(requirement.name)
        sizes[requirement.name.lower()] = sum(
            Path(str(file.locate())).stat().st_size for file in found.files or () if Path(str(file.locate())).exists()
        )
        needed += [each for each in _requirements(found, requirement) if each.name.lower() not in sizes]
    return sum(sizes.values()) / 1e6


def _requirements(found: importlib.metadata.Distribution, wanted: Requirement) -> Iterator[Requirement]:
    for stated in map(Requirement, found.requires or ()):
        extras = wanted.extras or {""}
        if stated.marker is None or any(stated.marker.evaluate({"extra": extra}) for extra in extras):
            yield stated


def block() -> str:
    """Return the table of the last measurement."""
    if not RESULT.exists():
        return "Not measured yet: `python benchmarks/targets.py` does."
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    measured, where = result["measured"], result["machine"]
    rows = [
        (target.what, target.bound, *(target.cell(each, unit) for each in measured.values()))
        for target, unit in TARGETS
    ]
    packages = result["gateway_packages_mb"]
    image = f"{packages + BASE_IMAGE_MB} MB, of which {packages} are packages"
    rows.append(("image of the gateway, unpacked (computed: no image is built here)", "< 1 GB", image, ""))
    names = (
        (name, f"{each['start_s']:.1f} s", f"{each['memory_mb']:,.0f} MB") for name, each in result["names"].items()
    )
    lines = [*table(("", "target", *measured), rows), "", *table(("", "cold start", "memory (PSS)"), names)]
    told = (
        f"Passages have {PASSAGE_TOKENS} tokens, queries {QUERY_TOKENS}; all models are int8. Measured with "
        f"`{result['command']}` on {result['date'][:10]}: {where['cores']} cores ({where['cpu']}), "
        f"{where['memory_gib']} GiB."
    )
    return "\n".join([*lines, "", told])


if __name__ == "__main__":
    main()
