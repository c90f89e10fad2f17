"""The true shape of nomic-embed-text-v1.5 with random weights: its exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_export import Options, Precision, export, is_complete

from benchmarks.true_sizes.checkpoint import made

if TYPE_CHECKING:
    from pathlib import Path

NAME = "nomic-shape"


def exported(folder: Path, precision: Precision = Precision.INT8) -> Path:
    """The model repository with the export, made if it is not there: about a minute and a half on two cores."""
    checkpoint = made("nomic", folder / "checkpoint")
    repository = folder / ("models" if precision is Precision.INT8 else f"models-{precision.value}")
    options = Options(str(checkpoint), repository, name=NAME, late_interaction=False, precision=precision)
    if not is_complete(options):
        export(options)
    return repository
