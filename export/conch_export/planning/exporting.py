"""What an export takes while it runs, or a comparison, and the refusal where there is less. Hides the steps of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch_export.errors import MemoryNeededError
from conch_export.families import family_of
from conch_export.model.description import Packing, Precision
from conch_export.planning.available import available_bytes
from conch_export.planning.gateway import tokenizer_bytes
from conch_export.verification.samples import LONGEST_TOKENS

if TYPE_CHECKING:
    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.model.description import Description

_PROCESS_BYTES, _LIBRARY_BYTES = 390_000_000, 150_000_000
"""Of Python with PyTorch, transformers and onnxruntime, and of their files that are mapped."""
_CALIBRATION_BYTES = 400_000
"""For each number of a token's vector: what a stretch of a graph computes of all sentences for calibration."""
_CONVERTED_COPIES = 3
"""Of all weights in fp32, where optimum converts them: PyTorch's, those of its trace, and the graph's."""
_HEADS = ("num_attention_heads", "n_heads", "n_head", "num_heads")
"""config.json's keys for the heads of attention; the first that is there holds."""
_SCORE_COPIES = 2
"""Of a row's attention scores in a graph: they and their softmax."""
_LIBRARY_SCORE_COPIES = 3
"""The same in the authors' library, which masks them before that."""
_TOKENIZERS = 2
"""Tokenizers of a checkpoint that are held at a time: the authors' library's and the one that is served."""
_FLOAT_BYTES = 4
_STORED_BYTES = {Precision.FP32: 4, Precision.FP16: 2, Precision.INT8: 1}
"""Of a number in a graph."""


@dataclass(frozen=True)
class ExportMemory:
    """Bytes of an export at its peak.

    Attributes:
        needed: that have to be there.
        mapped: of files, which the system drops where it needs the room; what is resident is both together.
    """

    needed: int
    mapped: int


def export_memory(description: Description, checkpoint: Checkpoint, precision: Precision) -> ExportMemory:
    """The peak of an export in this precision: that of its step which takes most.

    Steps give back what they took. Weights of the graph are read, rounded and written one by one, and then mapped.
    """
    counts = checkpoint.weights.counts
    total, largest = sum(counts), max(counts, default=0)
    writing = _written_bytes(checkpoint, precision) * largest
    converting = 0 if description.packing is Packing.PACKED else _CONVERTED_COPIES * _FLOAT_BYTES * total
    calibrating = _CALIBRATION_BYTES * description.hidden if precision is Precision.INT8 else 0
    probing = _probing_bytes(description, checkpoint, total)
    comparing = _comparing_bytes(description, checkpoint, precision)
    needed = max(converting, writing, calibrating, probing, comparing)
    return ExportMemory(_PROCESS_BYTES + needed, _LIBRARY_BYTES + _FLOAT_BYTES * total)


def _written_bytes(checkpoint: Checkpoint, precision: Precision) -> int:
    """Of each number of a weight: as it is stored, as float32 where it is stored otherwise, and rounded."""
    converted = _FLOAT_BYTES if checkpoint.weights.are_float32 else _STORED_BYTES[Precision.FP16] + _FLOAT_BYTES
    return converted + (0 if precision is Precision.FP32 else _STORED_BYTES[precision])


def _probing_bytes(description: Description, checkpoint: Checkpoint, count: int) -> int:
    """A converted graph is tried on the longest row, of which it holds all scores at once."""
    if description.packing is Packing.PACKED:
        return 0
    return _FLOAT_BYTES * (count + _SCORE_COPIES * _heads(checkpoint) * description.max_length**2)


def _heads(checkpoint: Checkpoint) -> int:
    """Heads of attention; 0 where there is none, or config.json does not state them."""
    if checkpoint.static is not None:
        return 0
    return next((heads for key in _HEADS if isinstance(heads := checkpoint.config.get(key), int)), 0)


def _comparing_bytes(description: Description, checkpoint: Checkpoint, precision: Precision) -> int:
    """Of the authors' library and the tokenizers, which are gone before the graph is run, or of the graph.

    The library holds all weights in fp32; where they are stored so, PyTorch maps the file. It holds all attention
    scores of a text at once. The graph's embedding table is looked up in the mapped file; its matrices are packed as
    the processor wants them.
    """
    counts = checkpoint.weights.counts
    total, largest = sum(counts), max(counts, default=0)
    family = family_of(checkpoint.config) if checkpoint.static is None else None
    maps = checkpoint.weights.are_float32 and family is not None and family.in_transformers
    length = min(description.max_length, LONGEST_TOKENS)
    scores = _LIBRARY_SCORE_COPIES * _heads(checkpoint) * length**2
    library = _FLOAT_BYTES * (scores + (0 if maps else total))
    tokenizers = _TOKENIZERS * tokenizer_bytes(checkpoint.tokenizer)
    return max(tokenizers + library, _STORED_BYTES[precision] * (total - largest))


def refuse_too_large(description: Description, checkpoint: Checkpoint) -> None:
    """Raise MemoryNeededError for an export that takes more memory than is left: the kernel would end it."""
    needed = export_memory(description, checkpoint, description.precision).needed
    shorter = "" if description.packing is Packing.PACKED else "export it for shorter texts with --max-length, "
    fix = f"{shorter}export on a larger machine and copy the model repository; --ignore-memory tries it all the same"
    _refuse(f"the export of {description.name}", needed, fix)


def refuse_to_compare(description: Description, checkpoint: Checkpoint) -> None:
    """Raise MemoryNeededError for a comparison of a model with its checkpoint that takes more memory than is left."""
    needed = _PROCESS_BYTES + _comparing_bytes(description, checkpoint, description.precision)
    fix = "compare them on a larger machine; --ignore-memory tries it all the same"
    _refuse(f"comparing {description.name} with its checkpoint", needed, fix)


def _refuse(what: str, needed: int, otherwise: str) -> None:
    left = available_bytes()
    if needed > left:
        msg = (
            f"{what} takes about {needed / 1e6:,.0f} MB of memory, and {left / 1e6:,.0f} MB are left: end what else "
            f"takes memory, raise the container's limit, or {otherwise}"
        )
        raise MemoryNeededError(msg)
