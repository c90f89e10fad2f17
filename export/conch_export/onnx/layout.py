"""Where the rows of a run lie in the tensors that Triton concatenated. Hides offsets, lengths and their checks.

Triton concatenates the flattened [rows, length] matrices of all merged requests, each padded to its own length, and
adds each tensor's padded length in every row (`BATCH_ITEM_SHAPE_FLATTEN`). Of N slots in R rows, the leading tensor's,
a row may have none, and nothing makes the other tensors of a request agree with it. Therefore:

- A row without slots is left out of all computing; its answer is NaN, put in at the end. Operators fail on empty axes,
  and onnxruntime's fusion of Transpose and MatMul (FusedMatMul) divides by zero there, which ends the process.
  Where no row has slots, each gets one that holds a filler, so that there is something to compute.
- A row is looked up in every tensor by that tensor's own lengths. Where they disagree, the row reads fillers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from conch_export.onnx.builder import GraphBuilder

ROW_LENGTHS = "row_lengths"
"""Input INT32 [R]: slots of every row of the leading tensor."""
REQUEST_ELEMENTS = "request_elements"
"""Input INT32 [Q] of MaxSim: elements of each merged request's attention_mask."""
CHUNK_ENDS = "chunk_ends"
"""Input INT64 [M] of late chunking: one past the last token of every chunk of a row, counted from the row's first."""
IDS, MASK, TYPES, EMBEDDINGS = "input_ids", "attention_mask", "token_type_ids", "token_embeddings"
VECTORS = "vectors"
"""Output of the projection, in whose graph the name `token_embeddings` is taken by an input."""
_FAR = 2**40
"""Added to slots that must not be read: it puts them beyond the end of any tensor, where `indices` reads fillers."""


def lengths_name(tensor: str) -> str:
    """The input that says how many slots every row has of a tensor other than the leading one."""
    return f"{tensor}_lengths"


def row_lengths(lengths: Sequence[int], *others: str) -> dict[str, NDArray[np.int32]]:
    """The inputs that Triton adds for rows of these lengths, alike in the leading tensor and in these others."""
    return dict.fromkeys((ROW_LENGTHS, *map(lengths_name, others)), np.asarray(lengths, np.int32))


def head_lengths(lengths: Sequence[int], hidden: int) -> dict[str, NDArray[np.int32]]:
    """The inputs that Triton adds to a head's for rows of these lengths; for vectors it gives [length, hidden]."""
    shapes = [number for length in lengths for number in (length, hidden)]
    return {**row_lengths(lengths, IDS), lengths_name(EMBEDDINGS): np.array(shapes, np.int32)}


class Layout:
    """The C rows of a run that have slots, in their order; all R where no row has any.

    Attributes:
        begins: INT64 [C], the first slot of every row.
        ends: INT64 [C], one past its last slot; ascending.
        slots: INT64 [S], 0 .. S - 1: the N slots of the leading tensor; one for each row where N is 0.
        slot_rows: INT64 [S], the row of every slot.
        places: INT64 [R], which of the C rows each row is; C for a row without slots.
    """

    def __init__(self, g: GraphBuilder, leading: str, others: Mapping[str, str]) -> None:
        """Locate the rows.

        Args:
            g: the graph.
            leading: the tensor, a vector [N], that `row_lengths` is about.
            others: names of other tensors, each with that of its lengths, INT32 [R].
        """
        self._g, self._leading = g, leading
        # A reshape that changes nothing: lengths that are negative or do not add up to N cannot come from Triton, and
        # end the run here with an error, before a row that they make empty ends the process.
        stated = g.node("Max", g.cast(ROW_LENGTHS, TensorProto.INT64), g.int64(0))
        self._size = g.node("Shape", g.node("Reshape", leading, g.node("ReduceSum", stated, keepdims=1)))
        is_empty = g.node("Equal", self._size, g.int64([0]))
        lengths = g.node("Max", stated, g.cast(is_empty, TensorProto.INT64))
        kept = g.cast(lengths, TensorProto.BOOL)
        self._lengths = self._kept(lengths, kept)
        self.ends = g.cumsum(self._lengths)
        self.begins = g.node("Sub", self.ends, self._lengths)
        # Up to the last end and not up to N: where no row has slots N is 0, and every row has been given one.
        self.slots = g.arange(g.node("Gather", self.ends, g.int64(-1)))
        self.slot_rows = count_at_most(g, self.ends, self.slots)
        ranks = g.node("Sub", g.cumsum(g.cast(kept, TensorProto.INT64)), g.int64(1))
        # Rows without slots point one past the C rows, where `restore` puts the filler.
        self.places = g.node("Where", kept, ranks, g.node("Shape", self.ends))
        self._begins, agree = {}, []
        for tensor, name in others.items():
            theirs = g.cast(name, TensorProto.INT64)
            # Summed up before rows are left out: a row without slots here may have some in the other tensor.
            self._begins[tensor] = self._kept(g.node("Sub", g.cumsum(theirs), theirs), kept)
            agree.append(g.node("Equal", self._lengths, self._kept(theirs, kept)))
        self._agree = agree[0] if len(agree) == 1 else g.node("And", *agree)

    def indices(self, tensor: str, slots: str, rows: str, malformed: str | None = None) -> str:
        """INT64 [n]: where a tensor has those slots, which are in those rows; its size where it has a filler for them.

        Args:
            tensor: the leading one or another.
            slots: INT64 [n].
            rows: INT64 [n].
            malformed: BOOL [C], rows that read fillers too.
        """
        g = self._g
        if tensor == self._leading:
            # Only slots that were given to rows of an empty run lie beyond the end; the filler is what they read.
            return g.node("Min", slots, self._size)
        agree = self._agree if malformed is None else g.node("And", self._agree, g.node("Not", malformed))
        shifts = g.node("Where", agree, g.node("Sub", self._begins[tensor], self.begins), g.int64(_FAR))
        return g.node("Min", g.node("Add", slots, g.node("Gather", shifts, rows)), g.node("Shape", tensor, end=1))

    def read(self, tensor: str, slots: str, rows: str) -> str:
        """INT64 [n]: the elements of a vector at those slots, see `indices`; its filler is 0."""
        g = self._g
        return g.node("Gather", g.node("Concat", tensor, g.int64([0]), axis=0), self.indices(tensor, slots, rows))

    def of_leading(self, per_slot: str) -> str:
        """[S] to [N]: nothing where no row has slots."""
        return self._g.slice(per_slot, self._g.int64([0]), self._size)

    def _kept(self, per_row: str, kept: str) -> str:
        """[R] to [C]."""
        return self._g.node("Compress", per_row, kept, axis=0)


def restore(g: GraphBuilder, per_row: str, places: str, filler: np.generic, name: str) -> None:
    """Output `name`: [C, width] as [R, width], by the `places` of a `Layout`; rows without slots are of the filler."""
    last = g.node(
        "Expand", g.constant(filler), g.node("Concat", g.int64([1]), g.node("Shape", per_row, start=1), axis=0)
    )
    g.node("Gather", g.node("Concat", per_row, last, axis=0), places, name=name)


def count_at_most(g: GraphBuilder, limits: str, values: str) -> str:
    """For every value the number of (ascending) limits that are not above it."""
    # All pairs are compared, because ONNX has no binary search; that is cheap, as the limits are rows, which are few.
    passed = g.node("GreaterOrEqual", g.column(values), limits)
    return g.node("ReduceSum", g.cast(passed, TensorProto.INT64), g.int64([1]), keepdims=0)
