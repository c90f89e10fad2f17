"""Checkpoints as transformers 5 and sentence-transformers 6 save them, restored from `tests/golden/saved.json`.

The file holds what the libraries wrote but for the numbers of the weights: those follow from the tensors' names, here
and where the golden answers were computed. `tests/golden/saved.py` makes it.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

GOLDEN = Path(__file__).parent / "golden" / "saved.json"
TEXTS = ("a quick brown fox", "The cat sat on the mat?", "x", "jumps over the lazy dog, yes! " * 20)


@cache
def golden() -> dict[str, Any]:
    """The whole file."""
    content: dict[str, Any] = json.loads(GOLDEN.read_text("utf-8"))
    return content


def restore(name: str, folder: Path) -> Path:
    """The checkpoint of that name, written below a folder."""
    saved = golden()["checkpoints"][name]
    for path, index in saved["files"].items():
        place = folder / name / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(golden()["contents"][index], "utf-8")
    for path, shapes in saved["tensors"].items():
        place = folder / name / path
        place.parent.mkdir(parents=True, exist_ok=True)
        save_file({tensor: numbers(tensor, shape) for tensor, shape in shapes.items()}, place, {"format": "pt"})
    return folder / name


def numbers(tensor: str, shape: Sequence[int]) -> NDArray[np.float32]:
    """The numbers of a tensor of that name: scales of norms are about 1, everything else about 0."""
    drawn = np.random.default_rng(crc32(tensor.encode())).standard_normal(shape) * 0.25
    is_scale = len(shape) == 1 and tensor.endswith("weight") and tensor != "weight"
    return np.asarray(drawn + is_scale, np.float32)
