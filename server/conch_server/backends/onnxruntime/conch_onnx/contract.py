"""One model's config.pbtxt, read from the JSON that Triton passes to a backend.

Names, defaults and meanings are those of Triton's own onnxruntime backend, so that one repository loads on both. What
this backend does not support is refused when the model loads; nothing is ignored silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike

# Triton type -> (numpy type, the name onnxruntime gives it).
TYPES: dict[str, tuple[DTypeLike, str]] = {
    "TYPE_BOOL": (np.bool_, "tensor(bool)"),
    "TYPE_UINT8": (np.uint8, "tensor(uint8)"),
    "TYPE_UINT16": (np.uint16, "tensor(uint16)"),
    "TYPE_UINT32": (np.uint32, "tensor(uint32)"),
    "TYPE_UINT64": (np.uint64, "tensor(uint64)"),
    "TYPE_INT8": (np.int8, "tensor(int8)"),
    "TYPE_INT16": (np.int16, "tensor(int16)"),
    "TYPE_INT32": (np.int32, "tensor(int32)"),
    "TYPE_INT64": (np.int64, "tensor(int64)"),
    "TYPE_FP16": (np.float16, "tensor(float16)"),
    "TYPE_FP32": (np.float32, "tensor(float)"),
    "TYPE_FP64": (np.float64, "tensor(double)"),
}


OWN_LENGTH = "own_length"
"""Parameter that names an input whose rows may have another length than the others'; Triton's backend compares none."""


class ConfigError(ValueError):
    """config.pbtxt requires something unsupported, or disagrees with the graph."""


@dataclass(frozen=True)
class Input:
    """An input tensor of a request.

    Attributes:
        dims: Without the batch axis, -1 for any length.
        ragged: Whether requests with different lengths are merged.
        has_own_length: Whether its rows may have another length than those of the other inputs.
    """

    name: str
    data_type: str
    dims: tuple[int, ...]
    ragged: bool = False
    has_own_length: bool = False


@dataclass(frozen=True)
class BatchInput:
    """An input tensor that the backend makes from the shapes of the input `source` of all merged requests."""

    kind: str
    name: str
    data_type: str
    source: str


@dataclass(frozen=True)
class Output:
    """An output tensor; with `source`, the graph's is flat and is cut into the shapes of that input."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    source: str | None = None


@dataclass(frozen=True)
class Contract:
    """One model's config.pbtxt; `batched` is false for `max_batch_size: 0`.

    `preferred` is the instance group that gets a request first where several are idle; empty where all are equal.
    """

    name: str
    instances: int
    batched: bool
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    batch_inputs: tuple[BatchInput, ...]
    parameters: Mapping[str, str]
    graph_level: int
    file_name: str
    preferred: str = ""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Contract:
        """Read Triton's model configuration; raise ConfigError for what this backend does not support."""
        _refuse_unsupported(config)
        sources = {o["target_name"][0]: _scatter_source(o) for o in config.get("batch_output", ())}
        parameters = {key: value.get("string_value", "") for key, value in config.get("parameters", {}).items()}
        own_length = parameters.get(OWN_LENGTH)
        groups = config.get("instance_group", ())
        return cls(
            name=config["name"],
            instances=sum(int(group.get("count", 1)) for group in groups),
            batched=int(config["max_batch_size"]) > 0,
            inputs=tuple(
                Input(i["name"], i["data_type"], _dims(i), bool(i.get("allow_ragged_batch")), i["name"] == own_length)
                for i in config["input"]
            ),
            outputs=tuple(
                Output(o["name"], o["data_type"], _dims(o), sources.get(o["name"])) for o in config["output"]
            ),
            batch_inputs=tuple(
                BatchInput(b["kind"], name, b["data_type"], b["source_input"][0])
                for b in config.get("batch_input", ())
                for name in b["target_name"]
            ),
            parameters=parameters,
            graph_level=int(config.get("optimization", {}).get("graph", {}).get("level", 0)),
            file_name=config.get("default_model_filename") or "model.onnx",
            preferred=min(groups, key=_priority)["name"] if len({_priority(group) for group in groups}) > 1 else "",
        )


def _priority(group: Mapping[str, Any]) -> int:
    return int(group.get("rate_limiter", {}).get("priority", 0))


def _dims(tensor: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(d) for d in tensor["dims"])


def _scatter_source(batch_output: Mapping[str, Any]) -> str:
    kind = batch_output["kind"]
    if kind != "BATCH_SCATTER_WITH_INPUT_SHAPE":
        raise ConfigError(f"batch_output of kind {kind} is not known; use BATCH_SCATTER_WITH_INPUT_SHAPE")
    source: str = batch_output["source_input"][0]
    return source


def _refuse_unsupported(config: Mapping[str, Any]) -> None:
    tensors = [*config["input"], *config["output"]]
    for tensor in tensors:
        if tensor["data_type"] not in TYPES:
            raise ConfigError(f"'{tensor['name']}' is {tensor['data_type']}; use one of {', '.join(TYPES)}")
        if tensor.get("optional"):
            raise ConfigError(f"input '{tensor['name']}' is optional; every input must be sent here")
        if tensor.get("reshape"):
            raise ConfigError(f"'{tensor['name']}' has a reshape; export the graph with the shape that clients use")
    if config.get("sequence_batching"):
        raise ConfigError("sequence_batching is not supported; use dynamic_batching or none")
