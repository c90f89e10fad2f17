"""Makes the models that users of onnxruntime make: optimum's export, its O2 optimisation, dynamic int8.

    python onnx_models.py CHECKPOINT FOLDER

writes model.onnx into FOLDER/fp32, FOLDER/int8 (O2, then quantized) and FOLDER/plain-int8 (quantized as exported, for
who optimises at start).
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from optimum.exporters.onnx import main_export
from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTOptimizer
from optimum.onnxruntime.configuration import AutoOptimizationConfig


def make(checkpoint: Path, folder: Path) -> None:
    """Export, optimise, quantize."""
    fp32, optimised = folder / "fp32", folder / "o2"
    main_export(str(checkpoint), str(fp32), task="feature-extraction", do_validation=False)
    optimizer = ORTOptimizer.from_pretrained(ORTModelForFeatureExtraction.from_pretrained(fp32))
    optimizer.optimize(save_dir=optimised, optimization_config=AutoOptimizationConfig.O2())
    quantize(optimised / "model_optimized.onnx", folder / "int8")
    quantize(fp32 / "model.onnx", folder / "plain-int8")


def quantize(source: Path, folder: Path) -> None:
    """Dynamic int8 with the settings of optimum's `AutoQuantizationConfig.avx512_vnni(per_channel=True)`."""
    folder.mkdir(exist_ok=True)
    quantize_dynamic(
        source,
        folder / "model.onnx",
        per_channel=True,
        weight_type=QuantType.QInt8,
        # optimum omits this option, without which operators fused by O2 have no type.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
