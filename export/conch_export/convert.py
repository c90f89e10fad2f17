"""optimum's ONNX export of a checkpoint, for architectures without a family here."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from conch_export.errors import UnsupportedError
from conch_export.graphs.builder import ONNX_OPSET
from conch_export.graphs.row_by_row import OUTPUT

if TYPE_CHECKING:
    from onnx import ModelProto

_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


def convert(folder: Path) -> ModelProto:
    """Export the encoder of the checkpoint in `folder`, [batch, length] in and `last_hidden_state` out.

    Raises:
        UnsupportedError: optimum does not know the architecture, or it needs other inputs than text.
    """
    # Imported late: it loads PyTorch.
    from optimum.exporters.onnx import main_export  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for library in ("optimum", "transformers"):
            logging.getLogger(library).setLevel(logging.ERROR)
        try:
            # As a transformers model even where sentence-transformers saved it: pooling is not optimum's here.
            kind = {"task": "feature-extraction", "library_name": "transformers"}
            main_export(str(folder), scratch, **kind, opset=ONNX_OPSET, do_validation=False)
        except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
            message = (
                f"{folder.name} has no family here and optimum cannot convert it ({str(error).splitlines()[0]}): "
                "choose a model of a family that docs/export.md lists, or add its family (docs/families.md)"
            )
            raise UnsupportedError(message) from error
        model = onnx.load(Path(scratch) / "model.onnx")
    inputs = {tensor.name for tensor in model.graph.input}
    if not inputs <= _INPUTS or OUTPUT not in {tensor.name for tensor in model.graph.output}:
        message = f"{folder.name} is no text encoder: it takes {sorted(inputs)}"
        raise UnsupportedError(message)
    return model
