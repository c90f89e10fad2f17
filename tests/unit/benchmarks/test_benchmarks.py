"""What the benchmarks compute from their measurements."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from conch_export.verification.texts import docstrings

from benchmarks import check, plot, results, retrieval, table, workloads
from benchmarks.peers.protocol import InProcess, Item, mean_pooled, padded
from benchmarks.workers import merged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

ITEMS = [Item(f"text {length}", list(range(length))) for length in (3, 5, 4, 8, 2)]


def test_padding_is_left_out_of_the_mean() -> None:
    inputs = padded(ITEMS[:2])
    hidden = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)

    vector = mean_pooled(hidden, inputs["attention_mask"])[0]

    expected = hidden[0, :3].mean(axis=0)
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), rtol=1e-5)


class Counting:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def prepare(self, items: Sequence[Item]) -> Sequence[Item]:
        return items

    def run(self, prepared: Any) -> NDArray[np.float32]:
        self.seen += [item.text for item in prepared]
        return np.ones((len(prepared), 2), np.float32)


def test_processes_share_a_workload_without_overlap() -> None:
    models = Counting(), Counting()
    for index, model in enumerate(models):
        InProcess(model, 1, index, 2).measure(ITEMS, 0.001)

    first, second = (set(model.seen) for model in models)
    assert first | second == {item.text for item in ITEMS}
    assert not first & second


def test_a_measurement_counts_the_tokens_of_the_texts_it_computed() -> None:
    measured = InProcess(Counting(), 2).measure(ITEMS, 0.005)

    repeats, rest = divmod(measured["texts"], len(ITEMS))
    assert rest in (0, 2, 4)
    assert measured["tokens"] == repeats * 22 + sum(len(item.ids) for item in ITEMS[:rest])


def test_rates_of_processes_side_by_side_are_added() -> None:
    one = {"texts": 10, "tokens": 100, "seconds": 2.0, "errors": 0, "latency_ms": {"p50": 3.0}}
    two = {"texts": 10, "tokens": 100, "seconds": 4.0, "errors": 1, "latency_ms": {"p50": 5.0}}

    both = merged([one, two])

    assert both["tokens_per_s"] == 75
    assert both["texts_per_s"] == 7.5
    assert (both["errors"], both["latency_ms"]["p50"]) == (1, 5.0)


def test_no_two_queries_and_no_two_documents_of_the_retrieval_set_are_equal() -> None:
    queries, documents = retrieval.pairs(docstrings())

    assert len(queries) == len(set(queries)) == len(set(documents)) >= 1000


def record(round_: int, system: str, workload: str, rate: float, latency_ms: float = 1.0) -> results.Record:
    return {
        "round": round_,
        "system": system,
        "workload": workload,
        "others_cores": 0.1,
        "texts": 10,
        "tokens": 100,
        "seconds": 1.0,
        "errors": 0,
        "texts_per_s": rate / 10,
        "tokens_per_s": rate,
        "latency_ms": {"p50": latency_ms, "p95": latency_ms, "p99": latency_ms},
    }


@pytest.fixture
def result() -> results.Result:
    """Three rounds: Triton at 10, 30, 20 thousand tokens a second, infinity at 2 thousand, OpenVINO not to be had."""
    return {
        "schema": results.SCHEMA,
        "date": "2026-01-02T03:04:05+00:00",
        "command": "python benchmarks/run.py",
        "git": {"revision": "0" * 40, "dirty": False},
        "machine": {"cpu": "A & B", "cores": 2, "avx512_vnni": True, "flags": ["avx512_vnni"]},
        "versions": {peer: {peer: "1.0"} for peer in table.PEERS},
        "seconds_per_measurement": 4.0,
        "workloads": {name: {"texts": 1, "tokens": 40, "median": 40.0, "max": 40} for name in workloads.NAMES},
        "systems": {
            "triton": {"label": "conch on Triton", "peer": False, "cosine_to_fp32": {"mean": 0.999, "min": 0.998}},
            "infinity": {"label": "infinity", "peer": True},
            "openvino": {"label": "OpenVINO", "peer": True, "not_measured": "no wheel"},
            "triton-one": {"label": "one client", "peer": False},
        },
        "rounds": [
            *(record(n, "triton", "real", rate) for n, rate in enumerate((10_000, 30_000, 20_000), 1)),
            *(record(n, "infinity", "real", 2_000) for n in (1, 2, 3)),
            record(1, "graphs-one", "short", 1, latency_ms=3.0),
            record(1, "gateway-one", "short", 1, latency_ms=7.0),
        ],
        "studies": {"fidelity": {"int8_mean_cosine": 0.9985}},
    }


def test_results_are_medians_of_the_rounds(result: results.Result) -> None:
    assert results.tokens_per_s(result, "triton", "real") == 20_000
    assert math.isnan(results.tokens_per_s(result, "openvino", "real"))


def test_a_result_is_read_as_it_was_written(result: results.Result, tmp_path: Path) -> None:
    path = tmp_path / "2026-01-02-0304.json"
    results.save(result, path)
    (tmp_path / "setup.json").write_text("{}", encoding="utf-8")

    assert results.newest(tmp_path) == path
    assert results.load(path) == result


def test_a_result_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text('{"schema": 0}', encoding="utf-8")

    with pytest.raises(ValueError, match="measure anew"):
        results.load(path)


def test_bars_are_passed_missed_or_not_measured(result: results.Result) -> None:
    verdicts = {bar.what: (bar.verdict, bar.measured) for bar in check.bars(result, {"queries": 1200})}

    assert verdicts["Triton / infinity, real"] == ("pass", 10.0)
    assert verdicts["one client: gateway and Triton add, ms"] == ("miss", 4.0)
    assert verdicts["int8 against fp32, mean cosine"] == ("pass", 0.9985)
    assert verdicts["Triton / OpenVINO, mixed"][0] == "not measured"
    assert verdicts["queries of the retrieval set"][0] == "pass"
    assert verdicts["requests that failed"] == ("pass", 0)


def test_a_loss_in_retrieval_is_judged_where_it_was_measured(result: results.Result) -> None:
    found = {retrieval.in_process("fp32"): 0.5, retrieval.in_process("int8"): 0.49}
    judged = [bar for bar in check.bars(result, {"ndcg_at_10": found}) if "nDCG" in bar.what]

    assert [bar.verdict for bar in judged] == ["miss", "not measured"]
    assert judged[0].measured == pytest.approx(0.02)


def test_the_table_has_the_medians_and_says_what_was_not_measured(result: results.Result) -> None:
    text = table.page(result, "r.json")

    assert "| **conch on Triton** |  |  |  | 20 000 | 0.9990 |" in text
    assert "| infinity |  |  |  | 2 000 |  |" in text
    assert "Not measured: openvino: no wheel" in text
    assert "one client" not in text
    assert "benchmarks/results/r.json" in text


def test_the_plot_is_well_formed_and_fastest_first(result: results.Result) -> None:
    svg = plot.chart(result)

    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - our own
    assert svg.count("<rect") == 2
    assert svg.index("conch on Triton") < svg.index("infinity<")
