"""What a checkpoint will need when it is served, told before it is exported. Nothing is written to the repository."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from conch_export.checkpoints.heads import read_head
from conch_export.errors import UndecidedError, UnsupportedError
from conch_export.families import family_of
from conch_export.model.description import Pooling, Precision
from conch_export.model.parts import parts
from conch_export.onnx.encoder import encoder_graph
from conch_export.onnx.layout import row_lengths
from conch_export.onnx.quantization.calibrate import calibrate
from conch_export.onnx.quantization.quantize import quantize
from conch_export.pipeline import described, save_graph
from conch_export.planning.head_memory import HeadFootprint
from conch_export.planning.memory import Footprint
from conch_export.planning.peak import measured_peak
from conch_export.triton.configuration import step_instances

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import onnx

    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.model.description import Description
    from conch_export.model.network import Encoder
    from conch_export.pipeline import Options
    from conch_export.planning.memory import Budget

_BESIDE_BYTES = 154_000_000
"""Of the embedded Triton and of the tokenizer that it serves beside encoder and heads, a process each."""
_CALIBRATION_TOKENS = (8, 64)


@dataclass(frozen=True)
class PlannedHead:
    """A Triton model behind the encoder.

    Attributes:
        name: of the model.
        footprint: what its memory depends on.
        instances: of it, a process each.
    """

    name: str
    footprint: HeadFootprint
    instances: int


@dataclass(frozen=True)
class Capacity:
    """A checkpoint's encoder and heads, and how they would be served.

    Attributes:
        encoder: what it computes.
        precision: of its matrix products.
        footprint: what its memory depends on.
        length: tokens of a row that it is planned for.
        rows: of that length in one run.
        instances: of the encoder, a process each.
        heads: what is served behind it.
    """

    encoder: Encoder
    precision: Precision
    footprint: Footprint
    length: int
    rows: int
    instances: int
    heads: tuple[PlannedHead, ...] = ()

    @property
    def budget(self) -> Budget:
        """Of one instance of the encoder."""
        return self.footprint.budget(self.length, self.rows)

    @property
    def beside(self) -> int:
        """Bytes of what is served beside encoder and heads."""
        return _BESIDE_BYTES

    @property
    def total(self) -> int:
        """Bytes of all instances, of encoder and heads, and of what is beside them."""
        behind = sum(head.instances * head.footprint.budget(self.length, self.rows).total for head in self.heads)
        return self.instances * self.budget.total + behind + self.beside

    def longest(self, memory: int) -> int:
        """Most tokens of a row with which everything stays within `memory` bytes; 0 if nothing does."""
        fitting, beyond = 0, self.footprint.max_length + 1
        while beyond - fitting > 1:
            length = (fitting + beyond) // 2
            if replace(self, length=length).total <= memory:
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


def capacity(options: Options, rows: int = 1, on_step: Callable[[str], None] = lambda _: None) -> Capacity:
    """Read a checkpoint for what it will need.

    Args:
        options: which one, and how it would be exported.
        rows: of the planned length that one run merges.
        on_step: called with a few words while the checkpoint is fetched, where it is not here.

    Raises:
        ExportError: it was not found, cannot be exported, or its architecture has no family here.
    """
    if options.precision is Precision.FP16:
        message = "memory is planned for a CPU, which has no fp16: choose --precision int8 or fp32"
        raise UnsupportedError(message)
    description, checkpoint = _described(options, on_step)
    family = family_of(checkpoint.config)
    if family is None:
        message = (
            f"the memory of architecture {checkpoint.model_type!r} is not planned, no family here reads it: "
            "export it and measure it with `conch verify`"
        )
        raise UnsupportedError(message)
    encoder = family.read_encoder(checkpoint.config, checkpoint.weights)
    instances = options.plan.instances
    return Capacity(
        encoder,
        options.precision,
        Footprint.of(encoder, options.precision),
        description.max_length,
        rows,
        instances,
        tuple(_heads(description, checkpoint, instances)),
    )


def _described(options: Options, on_step: Callable[[str], None]) -> tuple[Description, Checkpoint]:
    try:
        return described(options, on_step)
    except UndecidedError:
        # What an export asks for, a plan need not know: every pooling takes about the same.
        any_of_them = replace(options.overrides, pooling=Pooling.MEAN, normalize=True)
        return described(replace(options, overrides=any_of_them), on_step)


def _heads(description: Description, checkpoint: Checkpoint, instances: int) -> Iterator[PlannedHead]:
    for part in parts(description):
        if part.step is not None:
            footprint = HeadFootprint.of(
                read_head(description, part, checkpoint), description.hidden, description.precision
            )
            yield PlannedHead(part.step, footprint, step_instances(description, instances))


def _graph(encoder: Encoder, precision: Precision) -> onnx.ModelProto:
    """As an export makes it, but for the scales: those of no text in particular take as much memory."""
    graph = encoder_graph(encoder)
    if precision is Precision.FP32:
        return graph
    rows, length = _CALIBRATION_TOKENS
    ids = np.random.default_rng(0).integers(0, len(encoder.words), (rows, length))
    feeds = [
        {"input_ids": row, "attention_mask": np.ones_like(row), **row_lengths([length], "attention_mask")}
        for row in ids
    ]
    return quantize(graph, calibrate(encoder_graph(encoder, chunk_tokens=None), feeds))
