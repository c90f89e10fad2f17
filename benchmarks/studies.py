"""Measurements other than speed, made once per run: sizes and fidelity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.engine import Engine
from benchmarks.fidelity import fidelity
from benchmarks.models import NAME

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.models import Models


def megabytes(folder: Path) -> float:
    """Size of a graph with the weights beside it, in MB (1e6 bytes)."""
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def studies(models: Models) -> dict[str, dict[str, Any]]:
    """Return all studies by name."""
    fp32, int8 = (
        Engine(models.graph(precision, "encoder"), models.graph(precision, "pooling")) for precision in ("fp32", "int8")
    )
    return {
        "sizes": {f"encoder_{p}_mb": megabytes(models.graph(p, "encoder").parent) for p in ("fp32", "int8")},
        "fidelity": fidelity(fp32, int8, NAME),
    }
