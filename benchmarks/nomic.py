"""The true shape of nomic-embed-text-v1.5 with random weights: its int8 export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_export import Options, export, is_complete

from benchmarks.true_sizes.checkpoint import made

if TYPE_CHECKING:
    from pathlib import Path

NAME = "nomic-shape"


def exported(folder: Path) -> Path:
    """The model repository with the export, made if it is not there: about a minute and a half on two cores."""
    checkpoint, repository = made("nomic", folder / "checkpoint"), folder / "models"
    options = Options(str(checkpoint), repository, name=NAME, late_interaction=False)
    if not is_complete(options):
        export(options)
    return repository
