"""optimum's ONNX export of a checkpoint, for architectures without a family here, their own code's among them."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from conch_export.checkpoints import remote_code
from conch_export.errors import UnsupportedError
from conch_export.onnx.builder import ONNX_OPSET
from conch_export.onnx.row_by_row import OUTPUT

if TYPE_CHECKING:
    from onnx import ModelProto

_TASK = "feature-extraction"
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


def convert(folder: Path, name: str, *, own_code: bool = False) -> ModelProto:
    """Export the encoder of the checkpoint in `folder`, [batch, length] in and `last_hidden_state` out.

    Args:
        folder: of the checkpoint's encoder, as the installed libraries read it.
        name: of the checkpoint, for messages.
        own_code: run the code that the checkpoint brings, instead of transformers'.

    Raises:
        UnsupportedError: optimum does not know the architecture, or it needs other inputs than text.
    """
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for library in ("optimum", "transformers"):
            logging.getLogger(library).setLevel(logging.ERROR)
        try:
            (_export_by_own_code if own_code else _export)(folder, scratch)
        except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
            msg = (
                f"{name} has no family here and optimum cannot convert it ({str(error).splitlines()[0]}): "
                "choose a model of a family that docs/export.md lists, or add its family (docs/families.md)"
            )
            raise UnsupportedError(msg) from error
        model = onnx.load(Path(scratch) / "model.onnx")
    inputs = {tensor.name for tensor in model.graph.input}
    if not inputs <= _INPUTS or OUTPUT not in {tensor.name for tensor in model.graph.output}:
        raise UnsupportedError(f"{name} is no text encoder: it takes {sorted(inputs)}")
    return model


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
