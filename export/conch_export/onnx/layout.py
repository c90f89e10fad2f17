"""Where the rows of a run lie in the tensors that Triton concatenated. Hides offsets, lengths and their checks.

Triton concatenates the flattened [rows, length] matrices of all merged requests, each padded to its own length, and
adds each tensor's padded length in every row (`BATCH_ITEM_SHAPE_FLATTEN`). Of N slots in R rows, the leading tensor's,
a row may have none, and nothing makes the other tensors of a request agree with it. Therefore:

- A row without slots is left out of all computing and put back, as NaN, into what is answered. Operators fail on
  empty axes; onnxruntime's fusion of Transpose and MatMul (FusedMatMul) divides by zero there, which ends the process.
  Where no row has slots, each gets one that holds fillers, so that there is something to compute.
- A row is looked up in every tensor by that tensor's own lengths. Where they disagree, it reads fillers.
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
_FAR = 2**40
"""Beyond the end of any tensor, where every tensor has its filler."""


def lengths_name(tensor: str) -> str:
    """The input that says how many slots every row has of a tensor other than the leading one."""
    return f"{tensor}_lengths"


def row_lengths(lengths: Sequence[int], *others: str) -> dict[str, NDArray[np.int32]]:
    """What Triton would add for rows of these lengths, alike in the leading tensor and in these others."""
    return dict.fromkeys((ROW_LENGTHS, *map(lengths_name, others)), np.asarray(lengths, np.int32))


class Layout:
    """The C rows of a run that have slots, in their order; with the stand-ins, where no row has any.

    Attributes:
        begins: INT64 [C], the first slot of every row.
        ends: INT64 [C], one past its last slot; ascending.
        slots: INT64 [S], 0 .. S - 1: the N slots of the leading tensor, or those of the stand-ins.
        slot_rows: INT64 [S], the row of every slot.
    """

    def __init__(self, g: GraphBuilder, leading: str, others: Mapping[str, str]) -> None:
        """Locate the rows.

        Args:
            g: the graph.
            leading: the tensor, a vector [N], that `row_lengths` is about.
            others: names of other tensors, each with that of its lengths, INT32 [R].
        """
        self._g, self._leading = g, leading
        stated = _lengths(g, ROW_LENGTHS)
        # Lengths that do not add up to N, which cannot come from Triton, end the run here with an error.
        total = g.node("ReduceSum", stated, keepdims=1)
        self._size = g.node("Shape", g.node("Reshape", leading, total))
        is_empty = g.node("Equal", self._size, g.int64([0]))
        lengths = g.node("Max", stated, g.cast(is_empty, TensorProto.INT64))
        self._rows = g.node("NonZero", lengths)
        rows = g.node("Squeeze", self._rows, g.int64([0]))
        self._lengths = g.node("Gather", lengths, rows)
        self.ends = g.cumsum(self._lengths)
        self.begins = g.node("Sub", self.ends, self._lengths)
        count = g.node("Where", is_empty, g.node("Shape", ROW_LENGTHS), self._size)
        self.slots = g.arange(g.node("Squeeze", count))
        self.slot_rows = count_at_most(g, self.ends, self.slots)
        places = {name: self._place(lengths, rows) for name, lengths in others.items()}
        self._begins = {name: begins for name, (_, begins) in places.items()}
        self._agree = self._all([g.node("Equal", self._lengths, theirs) for theirs, _ in places.values()])

    def indices(self, tensor: str, slots: str, rows: str, malformed: str | None = None) -> str:
        """INT64 [n]: where a tensor has those slots, which are in those rows; its size where it has a filler for them.

        Args:
            tensor: the leading one or another.
            slots: INT64 [n].
            rows: INT64 [n].
            malformed: BOOL [C], rows that shall read fillers too.
        """
        g = self._g
        if tensor == self._leading:
            return g.node("Min", slots, self._size)
        agree = self._agree if malformed is None else g.node("And", self._agree, g.node("Not", malformed))
        shifts = g.node("Where", agree, g.node("Sub", self._begins[tensor], self.begins), g.int64(_FAR))
        return g.node("Min", g.node("Add", slots, g.node("Gather", shifts, rows)), g.node("Shape", tensor, end=1))

    def read(self, tensor: str, slots: str, rows: str) -> str:
        """INT64 [n]: what a vector has at those slots, see `indices`; its filler is 0."""
        g = self._g
        return g.node("Gather", g.node("Concat", tensor, g.int64([0]), axis=0), self.indices(tensor, slots, rows))

    def of_leading(self, per_slot: str) -> str:
        """[S] to [N]."""
        return self._g.node("Slice", per_slot, self._g.int64([0]), self._size, self._g.int64([0]))

    def restore(self, per_row: str, filler: str, name: str) -> None:
        """Output `name`: [C, width] as [R, width]; rows without slots are made of the filler, a scalar."""
        g = self._g
        shape = g.node("Concat", g.node("Shape", ROW_LENGTHS), g.node("Shape", per_row, start=1), axis=0)
        rows = g.node("Transpose", self._rows, perm=[1, 0])
        g.node("ScatterND", g.node("Expand", filler, shape), rows, per_row, name=name)

    def _place(self, lengths: str, rows: str) -> tuple[str, str]:
        """Of another tensor: how many slots it has in every row, and where these begin."""
        g = self._g
        lengths = _lengths(g, lengths)
        begins = g.node("Sub", g.cumsum(lengths), lengths)
        return g.node("Gather", lengths, rows), g.node("Gather", begins, rows)

    def _all(self, flags: list[str]) -> str:
        result = flags[0]
        for one in flags[1:]:
            result = self._g.node("And", result, one)
        return result


def _lengths(g: GraphBuilder, name: str) -> str:
    return g.node("Max", g.cast(name, TensorProto.INT64), g.int64(0))


def count_at_most(g: GraphBuilder, limits: str, values: str) -> str:
    """For every value the number of (ascending) limits that are not above it."""
    passed = g.node("GreaterOrEqual", g.column(values), g.line(limits))
    return g.node("ReduceSum", g.cast(passed, TensorProto.INT64), g.int64([1]), keepdims=0)
