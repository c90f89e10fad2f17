"""optimum's ONNX export of a checkpoint, for architectures without a family here, their own code's among them."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto
from onnx.external_data_helper import load_external_data_for_tensor

from conch_export.checkpoints import remote_code
from conch_export.errors import UnsupportedError, reason_of
from conch_export.onnx.builder import ONNX_OPSET, WEIGHT_BYTES, graphs_in
from conch_export.onnx.graph import GRAPH_FILE
from conch_export.scratch import temporary_folder, temporary_writes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_TASK = "feature-extraction"
_OUTPUT = "last_hidden_state"
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


@contextmanager
def converted(folder: Path, name: str, *, own_code: bool = False) -> Iterator[Path]:
    """Export the encoder of the checkpoint in `folder`, [batch, length] in and `last_hidden_state` out.

    Args:
        folder: of the checkpoint's encoder, as the installed libraries read it.
        name: of the checkpoint, for messages.
        own_code: run the code that the checkpoint brings, instead of transformers'.

    Yields:
        The path of the graph, whose weights lie beside it. Both are gone afterwards.

    Raises:
        UnsupportedError: optimum does not know the architecture, or it needs other inputs than text.
    """
    with temporary_folder() as scratch:
        try:
            with temporary_writes(scratch):
                _quietly_export(folder, str(scratch), own_code=own_code)
        except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
            msg = (
                f"{name} has no family here and optimum cannot convert it ({reason_of(error)}): "
                "choose a model of a family that docs/checkpoints.md lists, or add its family (docs/families.md)"
            )
            raise UnsupportedError(msg) from error
        path = scratch / GRAPH_FILE
        with temporary_writes(scratch):
            _put_weights_beside(path)
        graph = onnx.load(path, load_external_data=False).graph
        inputs = {tensor.name for tensor in graph.input}
        if not inputs <= _INPUTS or [tensor.name for tensor in graph.output] != [_OUTPUT]:
            raise UnsupportedError(f"{name} is no text encoder: it takes {sorted(inputs)}")
        yield path


def _quietly_export(folder: Path, scratch: str, *, own_code: bool) -> None:
    for library in ("optimum", "transformers"):
        logging.getLogger(library).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (_export_by_own_code if own_code else _export)(folder, scratch)


def _put_weights_beside(path: Path) -> None:
    """Write the weights of a graph that has them inside beside it, where they can be mapped.

    Of a graph beyond 2 GiB they lie there already, and so do constants of its nodes, which are put inside.
    """
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.t.data_location == TensorProto.EXTERNAL:
                load_external_data_for_tensor(attribute.t, str(path.parent))
                attribute.t.data_location = TensorProto.DEFAULT
                del attribute.t.external_data[:]
    _read_by_one_name(model.graph)
    onnx.save_model(model, path, save_as_external_data=True, size_threshold=WEIGHT_BYTES)


def _read_by_one_name(graph: onnx.GraphProto) -> None:
    """Take out the nodes that give constants further names.

    PyTorch's converter writes one wherever layers share a weight, and products are told by the weight that they read.
    """
    constants, outputs = {tensor.name for tensor in graph.initializer}, {tensor.name for tensor in graph.output}
    names: dict[str, str] = {}
    for node in graph.node:
        read = names.get(node.input[0], node.input[0]) if node.op_type == "Identity" else ""
        if read in constants and node.output[0] not in outputs:
            names[node.output[0]] = read
    for index in reversed(range(len(graph.node))):
        if graph.node[index].output[0] in names:
            del graph.node[index]
    _rename(graph, names)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Have its nodes, and those of graphs inside them, read other names."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for inner in graphs_in(node):
            _rename(inner, names)


def _export(folder: Path, scratch: str) -> None:
    # Imported late: it loads PyTorch.
    from optimum.exporters.onnx import main_export  # noqa: PLC0415

    # As a transformers model even where sentence-transformers saved it: pooling is not optimum's here.
    kind = {"task": _TASK, "library_name": "transformers"}
    main_export(str(folder), scratch, **kind, opset=ONNX_OPSET, do_validation=False)


def _export_by_own_code(folder: Path, scratch: str) -> None:
    from optimum.exporters.onnx import onnx_export_from_model  # noqa: PLC0415
    from optimum.exporters.onnx.model_configs import DistilBertOnnxConfig  # noqa: PLC0415

    model = remote_code.load(folder)
    # DistilBERT's inputs are those of every text encoder: ids and a mask, nothing else.
    configs = {"model": DistilBertOnnxConfig(model.config, task=_TASK)}
    onnx_export_from_model(
        model, scratch, task=_TASK, custom_onnx_configs=configs, opset=ONNX_OPSET, do_validation=False
    )
