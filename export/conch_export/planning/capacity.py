"""How much memory a checkpoint will need when it is served, before it is exported. Nothing is written to disk."""

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
from conch_export.model.public_models import public_models
from conch_export.onnx.encoder import encoder_graph
from conch_export.onnx.engine import Row, feed
from conch_export.onnx.quantization.calibrate import calibrate
from conch_export.onnx.quantization.quantize import quantize
from conch_export.options import described
from conch_export.planning.memory import Footprint, HeadFootprint
from conch_export.planning.peak import measured_peak
from conch_export.progress import silent
from conch_export.triton.configuration import head_instances

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.model.description import Description
    from conch_export.model.network import Encoder
    from conch_export.onnx.graph import Graph
    from conch_export.options import Options
    from conch_export.planning.memory import Budget
    from conch_export.progress import Progress

_BESIDE_BYTES = 154_000_000
"""Of the embedded Triton and of the tokenizer that it serves beside encoder and heads, a process each."""
_CALIBRATION_TOKENS = (8, 64)


@dataclass(frozen=True)
class PlannedHead:
    """A head behind the encoder.

    Attributes:
        name: of its Triton model.
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
        heads: behind it.
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
        """Bytes of all instances, of encoder and heads, of the weights that they share, and of what is beside them."""
        budgets = [(self.instances, self.budget)]
        budgets += [(head.instances, head.footprint.budget(self.length, self.rows)) for head in self.heads]
        return sum(count * budget.total + budget.weights for count, budget in budgets) + self.beside

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
            path = _graph(self.encoder, self.precision).save(Path(folder))
            return measured_peak(path, self.length, self.rows)


def capacity(options: Options, rows: int = 1, progress: Progress = silent) -> Capacity:
    """Plan the memory of a checkpoint.

    Args:
        options: which one, and how it would be exported.
        rows: of the planned length that one run merges.
        progress: told while the checkpoint is fetched, where it is not here.

    Raises:
        ExportError: it was not found, cannot be exported, or its architecture has no family here.
    """
    if options.precision is Precision.FP16:
        raise UnsupportedError("memory is planned for a CPU, which has no fp16: choose --precision int8 or fp32")
    description, checkpoint = _described(options, progress)
    family = family_of(checkpoint.config) if checkpoint.static is None else None
    if family is None:
        msg = (
            f"the memory of architecture {description.architecture!r} is not planned, no family here reads it: "
            "export it and measure it with `conch verify`"
        )
        raise UnsupportedError(msg)
    encoder = family.read_encoder(checkpoint.config, checkpoint.weights)
    precision, instances = options.precision, options.plan.instances
    heads = tuple(
        PlannedHead(
            model.head,
            HeadFootprint.of(read_head(description, model, checkpoint), description.hidden, precision),
            head_instances(description, instances),
        )
        for model in public_models(description)
        if model.head is not None
    )
    footprint = Footprint.of(encoder, precision)
    return Capacity(encoder, precision, footprint, description.max_length, rows, instances, heads)


def _described(options: Options, progress: Progress) -> tuple[Description, Checkpoint]:
    try:
        return described(options, progress)
    except UndecidedError:
        # An export needs to know the pooling; a plan does not, as every pooling takes about the same memory.
        assumed = replace(options.overrides, pooling=Pooling.MEAN, normalize=True)
        return described(replace(options, overrides=assumed), progress)


def _graph(encoder: Encoder, precision: Precision) -> Graph:
    """As an export makes it, but with scales of random tokens: they take as much memory as those of real text."""
    graph = encoder_graph(encoder)
    if precision is Precision.FP32:
        return graph
    ids = np.random.default_rng(0).integers(0, len(encoder.embeddings), _CALIBRATION_TOKENS).tolist()
    feeds = [feed([Row(row, [0] * len(row))], segments=False) for row in ids]
    return quantize(graph, calibrate(encoder_graph(encoder, chunk_tokens=None), feeds))
