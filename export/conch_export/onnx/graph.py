"""An ONNX graph as a small protobuf, its weights apart from it: how both are written and read.

On the disk the weights lie beside the graph as ONNX external data, whole pages each, so that onnxruntime maps them and
all processes that serve the graph share one copy. They are written one after the other, and none is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from conch_export.progress import silent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from conch_export.onnx.builder import GraphBuilder, Tensor, Weight
    from conch_export.progress import Progress

GRAPH_FILE, WEIGHTS_FILE = "model.onnx", "model.data"
_PAGE_BYTES = 4096


@dataclass(frozen=True)
class Graph:
    """A graph whose weights are read when it is written.

    Attributes:
        model: the protobuf. Of a weight it has name, type and shape (an initializer that is EXTERNAL, at no location).
        weights: their numbers, by name: constants of at least `builder.WEIGHT_BYTES`.
    """

    model: onnx.ModelProto
    weights: Mapping[str, Weight]

    @classmethod
    def of(cls, g: GraphBuilder, name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Graph:
        """Return the nodes and weights of a builder as a graph with these inputs and outputs."""
        return cls(g.model(name, inputs, outputs), g.weights)

    @classmethod
    def load(cls, path: Path) -> Graph:
        """A graph on the disk, its weights mapped; what lies in the protobuf itself is no weight, whatever its size."""
        model, weights = onnx.load(path, load_external_data=False), {}
        for tensor in model.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                place = {entry.key: entry.value for entry in tensor.external_data}
                file, offset = path.parent / place["location"], int(place.get("offset", 0))
                dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
                weights[tensor.name] = np.memmap(file, dtype, "r", offset, tuple(tensor.dims))
                del tensor.external_data[:]
        return cls(model, weights)

    def constants(self) -> dict[str, Weight]:
        """Weights and smaller constants, by name."""
        small = (each for each in self.model.graph.initializer if each.data_location != TensorProto.EXTERNAL)
        return {**{tensor.name: numpy_helper.to_array(tensor) for tensor in small}, **self.weights}

    def save(self, folder: Path, progress: Progress = silent, what: str = "writing the graph") -> Path:
        """Write `model.onnx`, and `model.data` beside it if there are weights; returns the path of the first.

        Args:
            folder: for both.
            progress: told how many of the weights' bytes are written.
            what: the step that it is told.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        if self.weights:
            with (folder / WEIGHTS_FILE).open("wb") as file:
                self._write_weights(model, file, progress, what)
        path = folder / GRAPH_FILE
        path.write_bytes(model.SerializeToString())
        return path

    def _write_weights(self, model: onnx.ModelProto, file: BinaryIO, progress: Progress, what: str) -> None:
        """Append them in the order of the protobuf, and say in it where they are."""
        done, total = 0, sum(array.nbytes for array in self.weights.values())
        for tensor in model.graph.initializer:
            if tensor.name in self.weights:
                progress(what, done, total)
                place = {"location": WEIGHTS_FILE, **_append(file, self.weights[tensor.name])}
                for key, value in place.items():
                    tensor.external_data.add(key=key, value=str(value))
                done += self.weights[tensor.name].nbytes


def _append(file: BinaryIO, weight: Weight) -> dict[str, int]:
    """Write the numbers at the next page; returns where they are."""
    file.write(bytes(-file.tell() % _PAGE_BYTES))
    offset = file.tell()
    file.write(np.ascontiguousarray(weight).data)
    return {"offset": offset, "length": file.tell() - offset}
