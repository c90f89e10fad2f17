"""The benchmark page and the README's chart, generated from the newest result."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from benchmarks import plot, results, targets
from benchmarks.markdown import table
from benchmarks.results import latency_ms, tokens_per_s
from benchmarks.retrieval import RESULT as RETRIEVAL
from benchmarks.true_sizes import table as true_sizes
from benchmarks.workloads import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.results import Result

INTRODUCTION = """\
Generated from the newest result by `make docs`; `make bench` measures anew. conch and its peers run on one machine in
one run, by turns. Columns are texts of mixed, short and uniform lengths, and docstrings of Python's standard library
("real"), with the median number of tokens."""
RETRIEVAL_TITLE = "## Retrieval"
PEERS = ("infinity", "openvino", "onnxruntime", "sentence-transformers")


def block() -> str:
    """The README's part: the chart, the machine and where the numbers are."""
    newest = results.newest()
    if newest is None:
        return "Not measured yet: `make bench` does, and `make docs` puts it here."
    more = "[docs/benchmarks.md](docs/benchmarks.md) has all workloads, versions and raw numbers."
    return f"![Tokens per second on docstrings](docs/benchmarks.svg)\n\n{_where(results.load(newest))}. {more}"


def pages() -> dict[str, Callable[[], str]]:
    """Files made from the newest result, by their path in the repository; none without one."""
    newest = results.newest()
    if newest is None:
        return {}
    return {
        "docs/benchmarks.svg": lambda: plot.chart(results.load(newest)),
        "docs/benchmarks.md": lambda: "\n".join(
            [
                page(results.load(newest), newest.name),
                f"## Targets\n\n{targets.block()}\n",
                retrieved(),
                true_sizes.block(),
            ]
        ),
    }


def page(result: Result, name: str) -> str:
    """Tokens per second of every system that was under full load, and where and when that was."""
    head = ["tokens per second", *(_headed(result, workload) for workload in NAMES), "cosine to fp32"]
    rows = []
    for system, info in result["systems"].items():
        rates = [tokens_per_s(result, system, workload) for workload in NAMES]
        if system not in plot.systems(result) or all(map(math.isnan, rates)):
            continue
        label = info["label"] if info["peer"] else f"**{info['label']}**"
        cosine = info.get("cosine_to_fp32", {}).get("mean", math.nan)
        rows.append([label, *map(_rate, rates), "" if math.isnan(cosine) else f"{cosine:.4f}"])
    missing = [f"{s}: {i['not_measured']}" for s, i in result["systems"].items() if "not_measured" in i]
    picture = "![Tokens per second on docstrings](benchmarks.svg)"
    about = _about(result, name)
    notes = [f"\nNot measured: {line}" for line in missing]
    lines = table(head, rows, numbers=True)
    return "\n".join(["# Benchmarks", "", INTRODUCTION, "", picture, "", *lines, "", about, *notes]) + "\n"


def retrieved() -> str:
    """The part about retrieval, from the result of `retrieval.py`."""
    if not RETRIEVAL.exists():
        return f"{RETRIEVAL_TITLE}\n\nNot measured yet: `python benchmarks/retrieval.py` does.\n"
    result = json.loads(RETRIEVAL.read_text("utf-8"))
    found: dict[str, float] = result["ndcg_at_10"]
    rows = ((name, f"{score:.4f}") for name, score in found.items())
    lines = table(("all-MiniLM-L6-v2", "nDCG@10"), rows, numbers=True)
    about = (
        f"By mteb {result['mteb']}: {result['queries']:,} queries, {result['documents']:,} documents; the rest of a "
        "docstring of an installed package is to be found by its first sentence "
        f"(`{result['command']}`, {result['date'][:10]}; [raw numbers](../benchmarks/results/{RETRIEVAL.name}))."
    )
    return "\n".join([RETRIEVAL_TITLE, "", *lines, "", about]) + "\n"


def _about(result: Result, name: str) -> str:
    rounds = max((record["round"] for record in result["rounds"]), default=0)
    how = (
        f"medians of {rounds} rounds of one run (`{result['command']}`; [raw numbers](../benchmarks/results/{name})). "
    )
    versions = ", ".join(f"{peer} {_version(result['versions'][peer], peer)}" for peer in PEERS)
    return f"{_where(result)}: {how}{_one_client(result)}Versions: {versions}."


def _where(result: Result) -> str:
    machine = result["machine"]
    vnni = ", AVX-512 VNNI" if machine["avx512_vnni"] else ""
    return f"all-MiniLM-L6-v2 on {machine['cores']} cores ({machine['cpu']}{vnni}), {result['date'][:10]}"


def _one_client(result: Result) -> str:
    named = {"graphs-one": "the graphs alone", "triton-one": "Triton", "gateway-one": "the gateway"}
    medians = {label: latency_ms(result, system, "short") for system, label in named.items()}
    said = [f"{label} {value:.1f} ms" for label, value in medians.items() if not math.isnan(value)]
    return f"One client, one short text, median: {', '.join(said)}. " if said else ""


def _version(versions: dict[str, str], peer: str) -> str:
    return versions.get(peer) or versions.get(f"{peer}-emb") or versions.get(f"{peer}_emb") or "?"


def _headed(result: Result, workload: str) -> str:
    return f"{workload} ({result['workloads'][workload]['median']:.0f})"


def _rate(value: float) -> str:
    return "" if math.isnan(value) else f"{round(value, -2):,.0f}".replace(",", " ")
