"""Makes the models that users of onnxruntime make: optimum's export, its O2 optimisation, dynamic int8.

    python onnx_models.py CHECKPOINT FOLDER [TASK]

writes model.onnx into FOLDER/fp32, FOLDER/int8 (O2, then quantized) and FOLDER/plain-int8 (quantized as exported, for
who optimises at start). TASK is optimum's name of it: feature-extraction or text-classification.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from optimum.exporters.onnx import main_export
from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTModelForSequenceClassification, ORTOptimizer
from optimum.onnxruntime.configuration import AutoOptimizationConfig


LARGE = 1 << 31
"""Bytes of weights from which on they lie beside the graph."""


def make(checkpoint: Path, folder: Path, task: str = "feature-extraction") -> None:
    """Export, optimise, quantize."""
    fp32, optimised = folder / "fp32", folder / "o2"
    # As a transformers model even where sentence-transformers saved it.
    main_export(str(checkpoint), str(fp32), task=task, library_name="transformers", do_validation=False)
    kind = ORTModelForSequenceClassification if task == "text-classification" else ORTModelForFeatureExtraction
    optimizer = ORTOptimizer.from_pretrained(kind.from_pretrained(fp32))
    optimizer.optimize(save_dir=optimised, optimization_config=AutoOptimizationConfig.O2())
    quantize(optimised / "model_optimized.onnx", folder / "int8")
    quantize(fp32 / "model.onnx", folder / "plain-int8")


def quantize(source: Path, folder: Path) -> None:
    """Dynamic int8 with the settings of optimum's `AutoQuantizationConfig.avx512_vnni(per_channel=True)`."""
    folder.mkdir(exist_ok=True)
    weights = sum(path.stat().st_size for path in source.parent.glob(f"{source.name}*"))
    quantize_dynamic(
        source,
        folder / "model.onnx",
        per_channel=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=weights > LARGE,
        # optimum omits this option, without which operators fused by O2 have no type.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
