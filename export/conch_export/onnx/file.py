"""A file as a model: any client of the server can read it, on any Triton, with no other protocol.

The file lies beside the graph and is the graph's only weight (ONNX external data): it exists once and stays readable.

Contract:
    range    INT64 [2], begin and end in bytes, as a Python slice
    content  UINT8 [n]
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from conch_export.onnx.builder import IR_VERSION, ONNX_OPSET


def file_graph(file_name: str, size: int) -> onnx.ModelProto:
    """A model that serves the bytes of the file `file_name`, of `size` bytes, in the model's own folder."""
    content = TensorProto(name="file", data_type=TensorProto.UINT8, dims=[size], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", file_name), ("offset", "0"), ("length", str(size))):
        content.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [
            helper.make_node("Split", ["range"], ["begin", "end"], axis=0, num_outputs=2),
            helper.make_node("Slice", ["file", "begin", "end"], ["content"]),
        ],
        "file",
        [helper.make_tensor_value_info("range", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("content", TensorProto.UINT8, ["n"])],
        [content],
    )
    return helper.make_model(
        graph, producer_name="conch", opset_imports=[helper.make_opsetid("", ONNX_OPSET)], ir_version=IR_VERSION
    )
