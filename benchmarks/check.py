"""Compares a result with the bars of the project.

python benchmarks/check.py [RESULT.json]       the newest run of results/ by default; exit status 1 if a bar is missed
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import results
from benchmarks.models import OPERATIONS_PER_TOKEN
from benchmarks.results import latency_ms, texts_per_s, tokens_per_s
from benchmarks.retrieval import RESULT as RETRIEVAL
from benchmarks.retrieval import in_process, through_gateway
from benchmarks.worker_matmul import OPERATIONS as OPERATIONS_PER_PRODUCT
from benchmarks.workloads import NAMES, SINGLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.results import Result


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        what: in words.
        limit: to be reached, or not exceeded where `at_most`.
        measured: NaN where the result does not say.
        digits: significant ones that are shown.
    """

    what: str
    limit: float
    measured: float
    at_most: bool = False
    digits: int = 3

    @property
    def verdict(self) -> str:
        """`pass`, `miss` or `not measured`."""
        if math.isnan(self.measured):
            return "not measured"
        kept = self.measured <= self.limit if self.at_most else self.measured >= self.limit
        return "pass" if kept else "miss"


def bars(result: Result, retrieval: Mapping[str, Any]) -> list[Bar]:
    """Return every bar with its verdict, of a run and of `retrieval.py`'s result; either may lack anything."""
    return [*_fidelity(result), *_retrieval(retrieval), *_throughput(result), *_costs(result)]


def share_of_products(result: Result, system: str, workload: str) -> float:
    """The part of the machine's int8 matrix-product rate that a system's linear layers reach."""
    products = texts_per_s(result, "products", "short") * OPERATIONS_PER_PRODUCT
    return tokens_per_s(result, system, workload) * OPERATIONS_PER_TOKEN / products


def _fidelity(result: Result) -> list[Bar]:
    def said(study: str, name: str) -> float:
        return float(result["studies"].get(study, {}).get(name, math.nan))

    return [
        Bar(
            "fp32 against transformers, largest difference", 1e-5, said("fidelity", "fp32_max_difference"), at_most=True
        ),
        Bar(
            "fp32 among other texts, largest difference",
            1e-6,
            said("fidelity", "fp32_neighbours_max_difference"),
            at_most=True,
        ),
        Bar(
            "int8 among other texts, largest difference",
            2e-6,
            said("fidelity", "int8_neighbours_max_difference"),
            at_most=True,
        ),
        Bar("int8 against fp32, mean cosine", 0.998, said("fidelity", "int8_mean_cosine"), digits=5),
        Bar("int8 against fp32, smallest cosine", 0.995, said("fidelity", "int8_min_cosine"), digits=5),
        Bar("int8 encoder, MB", 30, said("sizes", "encoder_int8_mb"), at_most=True),
    ]


def _retrieval(result: Mapping[str, Any]) -> list[Bar]:
    found = result.get("ndcg_at_10", {})

    def loss(of: str, against: str) -> float:
        return 1 - float(found.get(of, math.nan)) / float(found.get(against, math.nan))

    ways = {"in process": in_process, "through the gateway": through_gateway}
    return [
        *(
            Bar(f"int8 against fp32 {where}, loss of nDCG@10", 0.003, loss(name("int8"), name("fp32")), at_most=True)
            for where, name in ways.items()
        ),
        Bar("queries of the retrieval set", 1000, float(result.get("queries", math.nan)), digits=5),
    ]


def _throughput(result: Result) -> list[Bar]:
    def ratio(ours: str, other: str, workload: str) -> float:
        return tokens_per_s(result, ours, workload) / (tokens_per_s(result, other, workload) or math.nan)

    against_openvino = {"mixed": 1.3, "short": 1.8, "uniform": 1.0}
    return [
        Bar("Triton / infinity, real", 4.5, ratio("triton", "infinity", "real")),
        *(Bar(f"Triton / OpenVINO, {w}", bar, ratio("triton", "openvino", w)) for w, bar in against_openvino.items()),
        *(Bar(f"Triton / graphs in process, {w}", 0.93, ratio("triton", "graphs", w)) for w in NAMES),
        Bar("gateway / infinity, real", 4.0, ratio("gateway", "infinity", "real")),
        Bar("gateway / Triton, real", 0.80, ratio("gateway", "triton", "real")),
        Bar("gateway in bulk / Triton, real", 0.95, ratio("gateway-bulk", "triton", "real")),
        Bar("graphs / int8 matrix products, mixed", 0.60, share_of_products(result, "graphs", "mixed")),
    ]


def _costs(result: Result) -> list[Bar]:
    padding = latency_ms(result, "padded-one", SINGLE) / latency_ms(result, "unpadded-one", SINGLE)
    added = latency_ms(result, "gateway-one", "short") - latency_ms(result, "graphs-one", "short")
    deployment = result["studies"].get("deployment", {})
    return [
        Bar("40 tokens padded to 512 / unpadded, time", 1.05, padding, at_most=True),
        Bar("one client: gateway and Triton add, ms", 2.5, added, at_most=True),
        Bar("deployment's memory, MB (PSS)", 700, deployment.get("memory_mb", {}).get("pss", math.nan), at_most=True),
        Bar("start to first answer, s", 5, deployment.get("start_to_first_answer_s", math.nan), at_most=True),
        Bar("cores kept busy by others, at worst", 0.2, results.disturbance_cores(result), at_most=True),
        Bar("requests that failed", 0, results.errors(result), at_most=True),
    ]


def main(arguments: list[str]) -> int:
    """Print the table."""
    path = Path(arguments[0]) if arguments else results.newest()
    if path is None:
        print("there is no result yet: run `make bench`, or name a file")
        return 2
    table = Table("what", "bar", "measured", "", title=str(path), title_justify="left")
    retrieval = json.loads(RETRIEVAL.read_text("utf-8")) if RETRIEVAL.exists() else {}
    judged = bars(results.load(path), retrieval)
    for bar in judged:
        sign, colour = "≤" if bar.at_most else "≥", "green" if bar.verdict == "pass" else "red"
        table.add_row(
            bar.what, f"{sign} {bar.limit:g}", f"{bar.measured:.{bar.digits}g}", f"[{colour}]{bar.verdict}[/]"
        )
    Console(width=110).print(table)
    return int(any(bar.verdict != "pass" for bar in judged))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
