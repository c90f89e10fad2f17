"""Writes a checkpoint of a published shape with random weights: tensor after tensor, so that little memory is taken.

python -m benchmarks.true_sizes.checkpoint SHAPE FOLDER
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.true_sizes import vocabularies
from benchmarks.true_sizes.shapes import SHAPES
from benchmarks.true_sizes.tensors import tensor_shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from benchmarks.true_sizes.shapes import Shape
    from benchmarks.true_sizes.tensors import Shapes

_DEVIATION = 0.02  # of initial weights, as all these configurations have it
_IS_VALUE = re.compile(r"\.attention\.(self\.value|output\.dense)\.weight$")
_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_PIECE = 1 << 24
"""Numbers that are drawn at a time."""
_KINDS = "sentence_transformers.models"


def made(name: str, folder: Path) -> Path:
    """The folder with the checkpoint of that shape, written if it is not there."""
    if not (folder / ".whole").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        save(SHAPES[name], folder)
        (folder / ".whole").touch()
    return folder


def save(shape: Shape, folder: Path) -> None:
    """Write the checkpoint; the same numbers at every call."""
    (folder / "config.json").write_text(json.dumps(shape.config, indent=1))
    vocabularies.save(shape.vocabulary, folder)
    weights = _Weights(np.random.default_rng(0), shape.value_deviation)
    _save_weights(folder, tensor_shapes(shape.config), shape, weights)
    if shape.is_reranker:
        from benchmarks.true_sizes.head import turn_head  # noqa: PLC0415 - torch, which the tables need not have

        turn_head(folder)
    else:
        _save_modules(folder, shape, weights)


@dataclass(frozen=True)
class _Weights:
    """Normally distributed numbers for one tensor after the other."""

    random: np.random.Generator
    value_deviation: float

    def draw(self, name: str, count: int, around: float) -> Iterator[NDArray[np.float32]]:
        """So many numbers for the tensor of that name, in pieces."""
        deviation = self.value_deviation if _IS_VALUE.search(name) else _DEVIATION
        for begin in range(0, count, _PIECE):
            numbers = self.random.standard_normal(min(_PIECE, count - begin), np.float32)
            numbers *= np.float32(deviation)
            numbers += np.float32(around)
            yield numbers


def _save_weights(folder: Path, shapes: Shapes, shape: Shape, weights: _Weights) -> None:
    shards = list(_shards(shapes, shape.shard_bytes // _BYTES[shape.dtype]))
    names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = ["model.safetensors"]
    around = 0.0 if shape.config["model_type"].startswith("gemma") else 1.0  # Gemma's norms scale by 1 + weight
    for name, shard in zip(names, shards, strict=True):
        _write(folder / name, shard, shape.dtype, weights, around)
    if len(shards) > 1:
        where = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        size = _BYTES[shape.dtype] * sum(map(math.prod, shapes.values()))
        index = {"metadata": {"total_size": size}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _shards(shapes: Shapes, most: int) -> Iterator[Shapes]:
    """The tensors in order, as many numbers in each part as fit."""
    part: Shapes = {}
    for name, shape in shapes.items():
        if part and sum(map(math.prod, part.values())) + math.prod(shape) > most:
            yield part
            part = {}
        part[name] = shape
    yield part


def _write(path: Path, shapes: Shapes, dtype: str, weights: _Weights, around: float) -> None:
    """A safetensors file: the length of its header, the header, the numbers."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + _BYTES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            is_scale = len(shape) == 1 and name.endswith("weight")
            for numbers in weights.draw(name, math.prod(shape), around if is_scale else 0.0):
                file.write(_stored(numbers, dtype).tobytes())


def _stored(numbers: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    if dtype == "BF16":
        return (numbers.view(np.uint32) >> 16).astype(np.uint16)
    return numbers.astype(np.float16) if dtype == "F16" else numbers


def _save_modules(folder: Path, shape: Shape, weights: _Weights) -> None:
    """What sentence-transformers keeps beside the encoder."""
    width = shape.config.get("hidden_size") or shape.config["n_embd"]
    flag = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}[shape.pooling]
    settings: dict[str, dict[str, Any]] = {
        "1_Pooling": {"word_embedding_dimension": width, f"pooling_mode_{flag}": True},
    }
    if shape.pooling != "mean":
        settings["1_Pooling"]["pooling_mode_mean_tokens"] = False
    kinds = ["Transformer", "Pooling", *("Dense" for _ in shape.dense), "Normalize"]
    for number, outputs in enumerate(shape.dense, 2):
        settings[f"{number}_Dense"] = {
            "in_features": width,
            "out_features": outputs,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        (folder / f"{number}_Dense").mkdir()
        _write(folder / f"{number}_Dense" / "model.safetensors", {"linear.weight": (outputs, width)}, "F32", weights, 0)
        width = outputs
    for name, content in settings.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config.json").write_text(json.dumps(content))
    modules = [
        {"idx": number, "name": str(number), "path": f"{number}_{kind}" if number else "", "type": f"{_KINDS}.{kind}"}
        for number, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": _max_length(shape)}))


def _max_length(shape: Shape) -> int:
    positions: int = shape.config.get("max_position_embeddings") or shape.config["n_positions"]
    # RoBERTa counts positions from 2.
    return positions - 2 if shape.config["model_type"] == "xlm-roberta" else positions


if __name__ == "__main__":
    made(sys.argv[1], Path(sys.argv[2]))
