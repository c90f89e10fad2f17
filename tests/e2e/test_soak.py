"""A minute of `make soak`: every surface of `conch serve` is asked all the time while things go wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.soak import models

ROOT = Path(__file__).parents[2]
FAULTS = [
    "gateway killed",
    "keys file broken",
    "tritonserver killed",
    "connections to Triton reset",
    "gateway stopped",
]
OF_SOAK = ["--minutes=1", "--per-second=6", "--every=11", f"--faults={','.join(FAULTS)}"]
TIMEOUT_S = 800


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run has seen; its bounds on time and memory are not read, because this machine may do other things too."""
    folder = tmp_path_factory.mktemp("soak")
    models.make(folder)  # here, where PyTorch is imported already
    result = folder / "soak.json"
    command = [sys.executable, "-m", "tests.soak", *OF_SOAK, f"--models={folder}", f"--result={result}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert result.exists(), run.stderr
    told: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return told


@pytest.mark.parametrize("kind", ["wrong", "hung", "unclean"])
def test_no_answer_is(seen: dict[str, Any], kind: str) -> None:
    assert seen["others"].get(kind, 0) == 0, seen["examples"]


def test_no_connection_breaks_while_the_gateway_runs(seen: dict[str, Any]) -> None:
    assert seen["disconnected_while_the_gateway_ran"] == 0, seen["examples"]


def test_every_surface_has_answered(seen: dict[str, Any]) -> None:
    assert all(counts["right"] for counts in seen["by_surface"].values()), seen["by_surface"]


def test_faults_have_happened_and_done_what_they_should(seen: dict[str, Any]) -> None:
    happened = [met["fault"] for met in seen["faults"]]
    assert happened == FAULTS[: len(happened)]  # a slow machine may not get to the last ones
    assert len(happened) >= 2
    assert not any(met["trouble"] for met in seen["faults"]), seen["faults"]


def test_in_the_end_all_is_right_again(seen: dict[str, Any]) -> None:
    assert seen["right_since_the_last_failure"] > 0


def test_nothing_is_left_over(seen: dict[str, Any]) -> None:
    assert seen["left_over"] == []
