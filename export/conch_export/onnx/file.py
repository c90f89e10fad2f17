"""The graph of a model that serves a file, such as tokenizer.json: clients read it by requests, from any Triton.

The file lies beside the graph and is the graph's only weight (ONNX external data): it exists once and stays readable.

Contract:
    range    INT64 [2], begin and end in bytes, as a Python slice
    content  UINT8 [n]
"""

from __future__ import annotations

from onnx import TensorProto

from conch_export.onnx.builder import GraphBuilder
from conch_export.onnx.graph import Graph


def file_graph(file_name: str, size: int) -> Graph:
    """A model that serves the bytes of the file `file_name`, of `size` bytes, in the model's own folder."""
    content = TensorProto(name="file", data_type=TensorProto.UINT8, dims=[size], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", file_name), ("offset", "0"), ("length", str(size))):
        content.external_data.add(key=key, value=value)
    g = GraphBuilder()
    g.adopt([content], {})
    begin, end = g.nodes_of("Split", "range", outputs=2, axis=0, num_outputs=2)
    g.node("Slice", "file", begin, end, name="content")
    return Graph.of(g, "file", [("range", TensorProto.INT64, [2])], [("content", TensorProto.UINT8, ["n"])])
