"""What a checkpoint will need when it is served, told before it is exported. Nothing is written to the repository."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from conch_export.checkpoint import Checkpoint
from conch_export.description import Precision
from conch_export.errors import UnsupportedError
from conch_export.families import family_of
from conch_export.graphs.calibrate import calibrate
from conch_export.graphs.encoder import encoder_graph
from conch_export.graphs.quantize import quantize
from conch_export.graphs.ragged import ROW_LENGTHS
from conch_export.memory import Footprint
from conch_export.peak import measured_peak
from conch_export.pipeline import save_graph
from conch_export.provenance import find
from conch_export.usage import read_max_length

if TYPE_CHECKING:
    import onnx

    from conch_export.graphs.network import Encoder
    from conch_export.memory import Budget
    from conch_export.pipeline import Options

BESIDE_BYTES = 220_000_000
"""Of the embedded Triton and of the head and the tokenizer that it serves beside the encoder, a process each."""
_CALIBRATION_TOKENS = (8, 64)


@dataclass(frozen=True)
class Capacity:
    """A checkpoint's encoder, and how it would be served.

    Attributes:
        encoder: what it computes.
        precision: of its matrix products.
        footprint: what its memory depends on.
        length: tokens of a row that it is planned for.
        rows: of that length in one run.
        instances: of the encoder, a process each.
    """

    encoder: Encoder
    precision: Precision
    footprint: Footprint
    length: int
    rows: int
    instances: int

    @property
    def budget(self) -> Budget:
        """Of one instance."""
        return self.footprint.budget(self.length, self.rows)

    @property
    def total(self) -> int:
        """Bytes of all instances and of what is served beside them."""
        return self.instances * self.budget.total + BESIDE_BYTES

    def longest(self, memory: int) -> int:
        """Most tokens of a row with which everything stays within `memory` bytes; 0 if nothing does."""
        fitting, beyond = 0, self.footprint.max_length + 1
        while beyond - fitting > 1:
            length = (fitting + beyond) // 2
            if self.instances * self.footprint.budget(length, self.rows).total + BESIDE_BYTES <= memory:
                fitting = length
            else:
                beyond = length
        return fitting

    def measure(self) -> int:
        """Bytes that one instance took at its peak, in a process that ran its graph.

        Raises:
            ExportError: it could not be run.
        """
        with tempfile.TemporaryDirectory() as folder:
            save_graph(_graph(self.encoder, self.precision), Path(folder))
            return measured_peak(Path(folder) / "model.onnx", self.length, self.rows)


def capacity(options: Options, rows: int = 1) -> Capacity:
    """Read a checkpoint for what it will need.

    Args:
        options: which one, and how it would be exported.
        rows: of the planned length that one run merges.

    Raises:
        ExportError: it was not found, or its architecture has no family here.
    """
    checkpoint = Checkpoint(find(options.reference, options.revision, options.repository).folder)
    family = family_of(checkpoint.config)
    if family is None:
        message = (
            f"the memory of architecture {checkpoint.model_type!r} is not planned, no family here reads it: "
            "export it and measure it with `conch verify`"
        )
        raise UnsupportedError(message)
    if options.precision is Precision.FP16:
        message = "memory is planned for a CPU, which has no fp16: choose --precision int8 or fp32"
        raise UnsupportedError(message)
    length = read_max_length(checkpoint, family.position_count(checkpoint.config), options.overrides.max_length)
    encoder = family.read_encoder(checkpoint)
    footprint = Footprint.of(encoder, options.precision)
    return Capacity(encoder, options.precision, footprint, length, rows, options.plan.instances)


def _graph(encoder: Encoder, precision: Precision) -> onnx.ModelProto:
    """As an export makes it, but for the scales: those of no text in particular take as much memory."""
    graph = encoder_graph(encoder)
    if precision is Precision.FP32:
        return graph
    rows, length = _CALIBRATION_TOKENS
    ids = np.random.default_rng(0).integers(0, len(encoder.words), (rows, length))
    feeds = [
        {"input_ids": row, "attention_mask": np.ones_like(row), ROW_LENGTHS: np.array([length], np.int32)}
        for row in ids
    ]
    return quantize(graph, calibrate(encoder_graph(encoder, chunk_tokens=None), feeds))
