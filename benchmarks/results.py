"""Result files: one JSON per run with the numbers of every round; tables and charts are computed from it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median
from typing import Any

from typing_extensions import NotRequired, TypedDict

FOLDER = Path(__file__).parent / "results"
SCHEMA = 1


class Record(TypedDict):
    """One measurement of one system on one workload."""

    round: int
    system: str
    workload: str
    others_cores: float
    texts: int
    tokens: int
    seconds: float
    errors: int
    texts_per_s: float
    tokens_per_s: float
    latency_ms: dict[str, float]


class SystemInfo(TypedDict):
    """Facts about a system."""

    label: str
    peer: bool
    not_measured: NotRequired[str]
    cosine_to_fp32: NotRequired[dict[str, float]]


class Result(TypedDict):
    """One run."""

    schema: int
    date: str
    command: str
    git: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, dict[str, str]]
    seconds_per_measurement: float
    workloads: dict[str, dict[str, Any]]
    systems: dict[str, SystemInfo]
    rounds: list[Record]
    studies: dict[str, dict[str, Any]]


def save(result: Result, path: Path) -> None:
    """Write a result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Result:
    """Read a result.

    Raises:
        ValueError: it is of another schema.
    """
    result: Result = json.loads(path.read_text(encoding="utf-8"))
    if result.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {result.get('schema')}, this program reads {SCHEMA}; measure anew")
    return result


def newest(folder: Path = FOLDER) -> Path | None:
    """The newest result of a folder: their names begin with the date."""
    return max(folder.glob("[0-9]*.json"), key=lambda path: path.name, default=None)


def tokens_per_s(result: Result, system: str, workload: str) -> float:
    """Median over the rounds; NaN where nothing was measured."""
    return _median([record["tokens_per_s"] for record in _records(result, system, workload)])


def texts_per_s(result: Result, system: str, workload: str) -> float:
    """Median over the rounds; NaN where nothing was measured."""
    return _median([record["texts_per_s"] for record in _records(result, system, workload)])


def latency_ms(result: Result, system: str, workload: str) -> float:
    """Median over the rounds of the median; NaN where nothing was measured."""
    return _median([record["latency_ms"]["p50"] for record in _records(result, system, workload)])


def errors(result: Result) -> int:
    """Return the number of failed requests in the whole run."""
    return sum(record["errors"] for record in result["rounds"])


def disturbance_cores(result: Result) -> float:
    """Return the cores busy with other processes during the worst measurement."""
    return max((record["others_cores"] for record in result["rounds"]), default=math.nan)


def _records(result: Result, system: str, workload: str) -> list[Record]:
    return [r for r in result["rounds"] if r["system"] == system and r["workload"] == workload]


def _median(values: list[float]) -> float:
    return median(values) if values else math.nan
