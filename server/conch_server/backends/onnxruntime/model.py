"""Triton's python-based backend `onnxruntime`: the glue between the python stub and `conch_onnx`.

Triton loads this file from `backends/onnxruntime/`. With it the wheel's tritonserver, built without an onnxruntime
backend, serves the same repository as the official image, which has one in C++.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The stub's interpreter ignores PYTHONPATH, so it is applied here, before the system's numpy can shadow the one that
# onnxruntime was installed with.
sys.path[:0] = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]

import triton_python_backend_utils as pb_utils  # noqa: E402

if TYPE_CHECKING:
    from conch_server.backends.onnxruntime.conch_onnx.runner import GraphModel, RequestError
else:
    from conch_onnx.runner import GraphModel, RequestError


# The folder of this start of Triton, into which this file was copied; it is removed with all that is in it.
SCRATCH = Path(__file__).parents[2] / "packed"


class TritonPythonModel:
    """One instance of one model; Triton calls the methods by these names."""

    _model: GraphModel

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Complete nothing: config.pbtxt is complete."""
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph; Triton logs an exception of this method as the reason why the model is unavailable."""
        folder = Path(args["model_repository"], args["model_version"])
        instance = args["model_instance_name"]
        self._model = GraphModel.open(json.loads(args["model_config"]), folder, SCRATCH, instance)
        self._inputs = [declared.name for declared in self._model.contract.inputs]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch of Triton's scheduler."""
        tensors = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        wanted = [set(request.requested_output_names()) for request in requests]
        # One run computes whatever any of them wants; each gets its own outputs only.
        answers = self._model.run(tensors, set().union(*wanted))
        return [_response(answer, names) for answer, names in zip(answers, wanted, strict=True)]


def _response(answer: Any, names: set[str]) -> Any:
    if isinstance(answer, RequestError):
        code = pb_utils.TritonError.INVALID_ARG if answer.invalid else pb_utils.TritonError.INTERNAL
        return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(answer), code))
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, answer[name]) for name in answer if name in names])
