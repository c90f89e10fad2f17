"""Differences of exported graphs: to transformers (fp32), to fp32 (int8), and between alone and merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from conch_export import Overrides, Precision
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.describe import describe
from conch_export.model.public_models import public_models
from conch_export.sources.finder import resolve
from conch_export.verification.reference import Reference
from conch_export.verification.rows import Rows
from conch_export.verification.samples import Item, Role
from conch_export.verification.texts import docstrings, spread

if TYPE_CHECKING:
    from conch_export.onnx.engine import Row
    from numpy.typing import NDArray

    from benchmarks.engine import Engine

TEXTS = 300
LONGEST = 512


def fidelity(fp32: Engine, int8: Engine, reference: str) -> dict[str, Any]:
    """Compare on 300 real texts of up to 512 tokens that calibration has not seen.

    Args:
        fp32: the packed graphs in full precision.
        int8: the same, quantized.
        reference: the checkpoint they come from, as `conch export` takes it.
    """
    source = resolve(reference)
    overrides = Overrides(max_length=LONGEST)
    description = describe(Checkpoint(source.folder), source, "reference", Precision.FP32, overrides)
    items = [Item(Role.TEXT, text) for text in spread(docstrings()[1::2], TEXTS)]
    rows = list(map(Rows(description), items))
    expected = Reference(description, overrides).answers(public_models(description)[0], items)
    exact, quantized = alone(fp32, rows), alone(int8, rows)
    cosines = (exact * quantized).sum(axis=1)
    return {
        "texts": len(rows),
        "tokens_min": min(len(row.ids) for row in rows),
        "tokens_max": max(len(row.ids) for row in rows),
        "fp32_max_difference": float(np.abs(exact - expected).max()),
        "int8_mean_cosine": float(cosines.mean()),
        "int8_min_cosine": float(cosines.min()),
        "fp32_neighbours_max_difference": neighbours(fp32, rows, exact),
        "int8_neighbours_max_difference": neighbours(int8, rows, quantized),
    }


def alone(engine: Engine, rows: list[Row]) -> NDArray[np.float32]:
    """Return float32 [rows, dimension], every text computed alone."""
    return np.concatenate([engine([row]) for row in rows])


def neighbours(engine: Engine, rows: list[Row], expected: NDArray[np.float32], times: int = 2) -> float:
    """Return the largest |difference| between alone and merged: random orders, in random batches of 1 to 16."""
    random, worst = np.random.default_rng(5), 0.0
    for _ in range(times):
        order, start = random.permutation(len(rows)), 0
        while start < len(rows):
            part = order[start : start + random.integers(1, 17)]
            vectors = engine([rows[i] for i in part])
            worst = max(worst, float(np.abs(vectors - expected[part]).max()))
            start += len(part)
    return worst
