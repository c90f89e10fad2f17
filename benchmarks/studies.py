"""Measurements other than speed, made once per run: sizes, fidelity, retrieval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.engine import Engine
from benchmarks.fidelity import fidelity
from benchmarks.models import NAME
from benchmarks.retrieval import retrieval

if TYPE_CHECKING:
    from benchmarks.models import Models


def studies(models: Models) -> dict[str, dict[str, Any]]:
    """Return all studies by name."""
    fp32, int8 = (
        Engine(models.graph(precision, "encoder"), models.graph(precision, "pooling")) for precision in ("fp32", "int8")
    )
    return {
        "sizes": {f"encoder_{p}_mb": models.graph(p, "encoder").stat().st_size / 1e6 for p in ("fp32", "int8")},
        "fidelity": fidelity(fp32, int8, NAME),
        "retrieval": retrieval(fp32, int8, models.graph("int8", "maxsim"), models.tokenizer()),
    }
