"""The page's part about models of true size."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.true_sizes import table

if TYPE_CHECKING:
    from pathlib import Path


def _rate(tokens_per_s: float, milliseconds: float = 20.0) -> dict[str, Any]:
    return {"latency_ms": {"middle": milliseconds}, "mixed": {"tokens_per_s": tokens_per_s}}


MACHINE = {"cores": 2, "cpu": "X", "memory_gib": 24}
SHAPE: dict[str, Any] = {
    "machine": MACHINE,
    "measured": {"peers": {"date": "2026-11-28T18:00:00+00:00"}},
    "checkpoint": {"weights_mb": 200.0, "dtype": "F16", "parameters": 100_000_000},
    "longest": 512,
    "fp32": {
        "plan_2": {"export_mb": {"fp32": 300.0}},
        "plan_export": {"export_mb": {"fp32": 700.0}},
        "export": {
            "seconds": 12.3,
            "cpu_seconds": 20.1,
            "peak_anonymous_mb": 800.0,
            "peak_mb": 1_300.0,
            "disk_mb": 401.0,
            "verification": {"mean_cosine": 1.0},
        },
    },
    "int8": {"export": {"failed": "no room"}},
    "peers": {
        "fp32": {"conch": {"not_measured": "no answer"}, "sentence-transformers": _rate(300.0)},
        "int8": {
            "conch": _rate(900.0),
            "onnxruntime-int8": _rate(600.0),
            "openvino": {"not_measured": "too large"},
            "infinity": _rate(100.0),
        },
    },
}


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    there = {"measured": {"plan": {"date": "2026-11-29T18:00:00+00:00"}}, "machine": {**MACHINE, "cpu": "Y"}}
    content = {"command": "python benchmarks/sizes.py", "shapes": {"some-shape": SHAPE, "another": there}}
    (tmp_path / "sizes.json").write_text(json.dumps(content))
    monkeypatch.setattr(table, "RESULT", tmp_path / "sizes.json")
    return table.block()


def test_an_exports_memory_is_stated_in_sizes_of_the_weights_in_fp32(page: str) -> None:
    assert (
        "| some-shape | 200 MB F16 | fp32 | 12 s (20) | 800 MB (700 MB) | 2.0 x | 1,300 MB | 401 MB | 1.0000 |" in page
    )


def test_a_failed_export_has_a_row_with_its_reason(page: str) -> None:
    assert "| some-shape | 200 MB F16 | int8 | failed: no room |" in page


def test_conch_is_compared_with_the_best_of_its_peers_that_ran(page: str) -> None:
    assert "| 900 | 600 (20 ms) |  | 100 (20 ms) | 1.50 |" in page


def test_what_was_not_measured_is_named_with_its_reason(page: str) -> None:
    assert "Not measured: openvino with some-shape: too large." in page
    assert "Not measured: conch with some-shape: no answer." in page


def test_every_shape_says_on_which_machine_it_was_measured(page: str) -> None:
    assert "some-shape: 2 cores (X), 24 GiB, 2026-11-28.\nanother: 2 cores (Y), 24 GiB, 2026-11-29.\n" in page
