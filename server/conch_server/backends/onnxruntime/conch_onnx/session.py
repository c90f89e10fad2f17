"""An onnxruntime session with the options of config.pbtxt, and the check that the graph is the one it describes."""

from __future__ import annotations

import contextlib
import ctypes
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from .batching import BATCH_INPUTS
from .contract import TYPES, ConfigError, Contract, Output
from .packed import packed
from .wide import WideWhenAlone

if TYPE_CHECKING:
    from pathlib import Path

    from .wide import Session

# Names, defaults and the odd numbering are those of Triton's onnxruntime backend (src/onnxruntime.cc, ModelState).
GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
BOOLEANS = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}


def open_session(contract: Contract, version_folder: Path, scratch: Path, instance: str) -> Session:
    """Load the model's graph; raise ConfigError if it is missing or does not match config.pbtxt.

    What instances share is below the folder `scratch`: packed weights, and the file by which they know of each other.
    `instance` is Triton's name of this one.
    """
    path = version_folder / contract.file_name
    if path.is_dir():
        path /= "model.onnx"
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; run `conch export` for this model")
    options = session_options(contract)
    graph = packed(path, contract.instances, scratch / contract.name, lambda: session_options(contract))
    opened = _opened(graph, options)
    check_agreement(contract, opened.get_inputs(), opened.get_outputs())
    session: Session = opened
    if graph == path:
        return session
    wide = None
    if options.intra_op_num_threads and contract.preferred and instance.startswith(f"{contract.preferred}_"):
        options.intra_op_num_threads *= contract.instances
        # Between two operators other processes get the cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        wide = _opened(graph, options)
    return WideWhenAlone(session, wide, scratch / "computing")


def _opened(graph: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    # What opening a graph has freed goes back to the system; the C library would keep it for each instance.
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    return session


def session_options(contract: Contract) -> ort.SessionOptions:
    """Return the session options that the model's `parameters` and `optimization` describe; raise ConfigError."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = GRAPH_LEVELS.get(contract.graph_level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    options.intra_op_num_threads = max(0, _integer(contract, "intra_op_thread_count", 0))
    options.inter_op_num_threads = max(0, _integer(contract, "inter_op_thread_count", 0))
    if _choice(contract, "execution_mode", {"0": False, "1": True}, default=False):
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.enable_cpu_mem_arena = _choice(contract, "enable_mem_arena", BOOLEANS, default=True)
    options.enable_mem_pattern = _choice(contract, "enable_mem_pattern", BOOLEANS, default=True)
    for key, value in contract.parameters.items():
        if key.startswith("session."):
            options.add_session_config_entry(key, value)
    return options


def _integer(contract: Contract, key: str, default: int) -> int:
    value = contract.parameters.get(key, str(default))
    try:
        return int(value)
    except ValueError as error:
        raise ConfigError(f"parameter {key} is '{value}'; write a whole number") from error


def _choice(contract: Contract, key: str, values: dict[str, bool], *, default: bool) -> bool:
    value = contract.parameters.get(key)
    if value is None:
        return default
    if value.lower() not in values:
        raise ConfigError(f"parameter {key} is '{value}'; use one of {', '.join(values)}")
    return values[value.lower()]


def check_agreement(contract: Contract, graph_inputs: list[Any], graph_outputs: list[Any]) -> None:
    """Raise ConfigError if config.pbtxt does not describe the graph, whose tensors have `name`, `type` and `shape`."""
    inputs, outputs = ({node.name: node for node in nodes} for nodes in (graph_inputs, graph_outputs))
    _check_names(contract, set(inputs), set(outputs))
    for declared in contract.inputs:
        dims = (-1,) if declared.ragged else (-1, *declared.dims) if contract.batched else declared.dims
        _check_tensor(f"input '{declared.name}'", declared.data_type, dims, inputs[declared.name])
    for output in contract.outputs:
        if output.source is None:
            dims = (-1, *output.dims) if contract.batched else output.dims
            _check_tensor(f"output '{output.name}'", output.data_type, dims, outputs[output.name])
        else:
            _check_type(f"output '{output.name}'", output.data_type, outputs[output.name])
            _check_scatter(contract, output)
    for made in contract.batch_inputs:
        if made.kind not in BATCH_INPUTS:
            raise ConfigError(f"batch_input of kind {made.kind} is not known; use one of {', '.join(BATCH_INPUTS)}")
        if made.data_type not in {"TYPE_INT32", "TYPE_FP32"}:
            raise ConfigError(f"batch_input '{made.name}' is {made.data_type}; Triton allows TYPE_INT32 and TYPE_FP32")
        _check_type(f"batch_input '{made.name}'", made.data_type, inputs[made.name])


def _check_names(contract: Contract, graph_inputs: set[str], graph_outputs: set[str]) -> None:
    fed = {declared.name for declared in contract.inputs} | {made.name for made in contract.batch_inputs}
    if missing := graph_inputs - fed:
        raise ConfigError(
            f"the graph takes {sorted(missing)}, which neither input nor batch_input of config.pbtxt gives"
        )
    if unknown := fed - graph_inputs:
        raise ConfigError(
            f"config.pbtxt gives {sorted(unknown)}, which the graph does not take: {sorted(graph_inputs)}"
        )
    if unknown := {output.name for output in contract.outputs} - graph_outputs:
        raise ConfigError(f"config.pbtxt promises {sorted(unknown)}, but the graph has only {sorted(graph_outputs)}")
    declared_names = {declared.name for declared in contract.inputs}
    sources = {made.source for made in contract.batch_inputs} | {o.source for o in contract.outputs if o.source}
    if unknown := sources - declared_names:
        raise ConfigError(f"source_input {sorted(unknown)} is no input of the model: {sorted(declared_names)}")


def _check_tensor(what: str, data_type: str, dims: tuple[int, ...], node: Any) -> None:
    _check_type(what, data_type, node)
    shape = [length if isinstance(length, int) else -1 for length in node.shape]
    agree = len(shape) == len(dims) and all(-1 in pair or pair[0] == pair[1] for pair in zip(shape, dims, strict=True))
    if not agree:
        raise ConfigError(
            f"{what} has dims {list(dims)} (batch axis included) in config.pbtxt and {shape} in the graph"
        )


def _check_type(what: str, data_type: str, node: Any) -> None:
    if data_type not in TYPES or TYPES[data_type][1] != node.type:
        raise ConfigError(f"{what} is {data_type} in config.pbtxt and {node.type} in the graph")


def _check_scatter(contract: Contract, output: Output) -> None:
    source = next(declared for declared in contract.inputs if declared.name == output.source)
    open_axes = [axis for axis, length in enumerate(output.dims) if length == -1]
    if any(axis >= len(source.dims) for axis in open_axes):
        raise ConfigError(
            f"output '{output.name}' {list(output.dims)} cannot take its shape from '{source.name}' {list(source.dims)}"
        )
