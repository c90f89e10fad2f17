"""Memory and disk that a checkpoint will take, exported and served, planned by its configuration and shapes alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conch_export.build import cpu_graph, planned_encoder, refuse_unbuildable
from conch_export.checkpoints.heads import read_head, read_token
from conch_export.model.description import Precision
from conch_export.model.heads import Static
from conch_export.model.public_models import public_models
from conch_export.onnx.encoder import CHUNK_TOKENS
from conch_export.onnx.engine import Row, feed
from conch_export.options import described_for_plan
from conch_export.planning.exporting import ExportMemory, export_memory
from conch_export.planning.gateway import gateway_bytes
from conch_export.planning.memory import Footprint, HeadFootprint, longest
from conch_export.planning.peak import measured_peak
from conch_export.progress import silent
from conch_export.scratch import temporary_folder, temporary_writes
from conch_export.triton.configuration import head_instances, triton_models
from conch_export.triton.repository import refuse_taken

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from conch_export.model.description import Description, Pooling
    from conch_export.model.heads import Head
    from conch_export.model.network import Encoder
    from conch_export.onnx.engine import Tensors
    from conch_export.options import Options
    from conch_export.planning.memory import Budget
    from conch_export.progress import Progress

_MB = 1e6
_BESIDE_BYTES = 154_000_000
"""Memory of the embedded Triton, and of the process in which it serves the tokenizer."""
SHARED_BYTES = 64 << 20
"""Weights from which on the instances of a model share them (conch_server's `packed.WORTH_BYTES`)."""
_PRECISIONS = (Precision.FP32, Precision.INT8)
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
    """Memory and disk that a checkpoint takes, to be exported and to be served.

    Attributes:
        encoder: what it computes, or looks up.
        precision: of its matrix products.
        footprint: what its memory depends on.
        length: most tokens of a row that it is planned for.
        rows: of up to that length in one run.
        instances: of the encoder, a process each.
        heads: behind it.
        gateway: bytes of a gateway with its tokenizer.
        exports: what an export takes at its peak, by precision.
        disk: bytes of what is exported, by precision.
        unsaid: what an export asks for and the plan does not need to know; empty for nothing.
        threads: of each instance, for one operator.
        token: the one token of a row whose vector the encoder gives; None for all.
    """

    encoder: Encoder | Static
    precision: Precision
    footprint: Footprint
    length: int
    rows: int
    instances: int
    heads: tuple[PlannedHead, ...] = ()
    gateway: int = 0
    exports: Mapping[str, ExportMemory] = field(default_factory=dict)
    disk: Mapping[str, int] = field(default_factory=dict)
    unsaid: str = ""
    threads: int = 1
    token: Pooling | None = None

    @property
    def cores(self) -> int:
        """Cores of all instances of the encoder together."""
        return self.instances * self.threads

    @property
    def budget(self) -> Budget:
        """Memory of one instance of the encoder."""
        return self.footprint.budget(self.length, self.rows * self.length)

    @property
    def shares_weights(self) -> bool:
        """Whether all instances map one copy of the encoder's weights."""
        return self.instances > 1 and self.footprint.graph >= SHARED_BYTES

    @property
    def encoders(self) -> int:
        """Bytes of all instances of the encoder."""
        budget = self.budget
        if self.shares_weights:
            # The first instance has a second session, for runs that have the machine to themselves.
            return budget.weights + self.instances * budget.own + (budget.own - budget.runtime)
        return self.instances * budget.total

    @property
    def beside(self) -> int:
        """Bytes of what is served beside encoder and heads."""
        return _BESIDE_BYTES

    @property
    def total(self) -> int:
        """Bytes of all instances, of encoder and heads, of Triton and of the gateway."""
        behind = sum(head.instances * head.footprint.budget(self.length, self.rows).total for head in self.heads)
        return self.encoders + behind + self.beside + self.gateway

    def longest(self, memory: int) -> int:
        """Most tokens of a row with which everything stays within `memory` bytes; 0 if nothing does."""
        return longest(self.footprint.max_length, lambda length: replace(self, length=length).total <= memory)

    def measure(self) -> int:
        """Bytes that one instance took while it computed, in a process that ran its graph.

        Raises:
            ExportError: it could not be run.
        """
        with temporary_folder() as folder:
            with temporary_writes(folder):
                feeds = _random_feeds(self.encoder)
                path = cpu_graph(self.encoder, self.precision, feeds, token=self.token).save(folder)
            # Of several rows the first is as long as makes a chunk of them the largest.
            first = self.length if self.rows == 1 else (CHUNK_TOKENS - 1) % self.length or self.length
            return measured_peak(path, first, *[self.length] * (self.rows - 1))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; MB are 10^6 bytes."""
        budget = self.budget
        return {
            "precision": self.precision.value,
            "length": self.length,
            "rows": self.rows,
            "instances": self.instances,
            "cores": self.cores,
            "instance_mb": {name: count / _MB for name, count in asdict(budget).items()},
            "shares_weights": self.shares_weights,
            "tables_mb": self.footprint.tables / _MB,
            "heads_mb": {
                head.name: head.instances * head.footprint.budget(self.length, self.rows).total / _MB
                for head in self.heads
            },
            "triton_mb": self.beside / _MB,
            "gateway_mb": self.gateway / _MB,
            "total_mb": self.total / _MB,
            "export_mb": {name: each.needed / _MB for name, each in self.exports.items()},
            "export_mapped_mb": {name: each.mapped / _MB for name, each in self.exports.items()},
            "disk_mb": {precision: count / _MB for precision, count in self.disk.items()},
        }


def capacity(options: Options, rows: int = 1, progress: Progress = silent) -> Capacity:
    """Plan the memory of a checkpoint, of which no matrix is read.

    Args:
        options: which one, and how it would be exported.
        rows: of the planned length that one run merges.
        progress: told while the checkpoint is fetched, where it is not here.

    Raises:
        ExportError: it was not found, cannot be exported, or its architecture has no family here.
    """
    description, checkpoint, unsaid = described_for_plan(options, progress)
    # As an export refuses it before it reads any weight.
    refuse_taken(options.repository, triton_models(description, options.plan))
    refuse_unbuildable(description, checkpoint, options.plan.target)
    encoder = planned_encoder(description, checkpoint)
    models = [model for model in public_models(description) if model.head is not None]
    heads = {str(model.head): read_head(description, model, checkpoint) for model in models}
    return Capacity(
        encoder,
        options.precision,
        Footprint.of(encoder, options.precision),
        description.max_length,
        rows,
        options.plan.instances,
        tuple(_planned(name, head, description, options) for name, head in heads.items()),
        gateway_bytes(checkpoint.tokenizer),
        {each.value: export_memory(description, checkpoint, each) for each in _PRECISIONS},
        {each.value: _disk(encoder, heads.values(), description, each) for each in _PRECISIONS},
        unsaid,
        options.plan.threads,
        None if isinstance(encoder, Static) else read_token(description, checkpoint),
    )


def _planned(name: str, head: Head, description: Description, options: Options) -> PlannedHead:
    footprint = HeadFootprint.of(head, description.hidden, options.precision)
    return PlannedHead(name, footprint, head_instances(description, options.plan.instances))


def _disk(encoder: Encoder | Static, heads: Iterable[Head], description: Description, precision: Precision) -> int:
    """Bytes of graphs and tokenizer."""
    behind = sum(HeadFootprint.of(head, description.hidden, precision).weights for head in heads)
    return Footprint.of(encoder, precision).graph + behind + description.tokenizer_bytes


def _random_feeds(encoder: Encoder | Static) -> list[Tensors]:
    """For calibration: scales of random tokens take as much memory as those of real text."""
    vocabulary = len(encoder.table if isinstance(encoder, Static) else encoder.embeddings)
    ids = np.random.default_rng(0).integers(0, vocabulary, _CALIBRATION_TOKENS).tolist()
    return [feed([Row(row, [0] * len(row))]) for row in ids]
