"""Whether a model's graph takes what its config.pbtxt gives it.

The two come from one export, but configurations are committed and graphs are not: after an update of the repository,
graphs of an older export may lie beside newer configurations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path


def graph_fits(model: Path) -> bool:
    """Whether the inputs of the graph in a model's folder are those of its configuration."""
    config = text_format.Parse((model / "config.pbtxt").read_text(encoding="utf-8"), pb.ModelConfig())
    given = {tensor.name for tensor in config.input} | {name for b in config.batch_input for name in b.target_name}
    graph = onnx.load(model / "1" / "model.onnx", load_external_data=False).graph
    return given == {tensor.name for tensor in graph.input}
