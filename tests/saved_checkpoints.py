"""Checkpoints as transformers 5 and sentence-transformers 6 save them, restored from `tests/golden/saved.json`.

The file holds what the libraries wrote but for the numbers of the weights: those follow from the tensors' names, here
and where the golden answers were computed. `tests/golden/saved.py` makes it; `mxbai.json` and `mxbai.py` are alike.
"""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

SAVED, MXBAI = (Path(__file__).parent / "golden" / f"{name}.json" for name in ("saved", "mxbai"))
TEXTS = ("a quick brown fox", "The cat sat on the mat?", "x", "jumps over the lazy dog, yes! " * 20)


@cache
def golden(file: Path = SAVED) -> dict[str, Any]:
    """The whole file."""
    content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return content


def restore(name: str, folder: Path, file: Path = SAVED) -> Path:
    """The checkpoint of that name, written below a folder."""
    saved = golden(file)["checkpoints"][name]
    for path, index in saved["files"].items():
        place = folder / name / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(golden(file)["contents"][index], "utf-8")
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


def draw(folder: Path) -> dict[str, dict[str, list[int]]]:
    """Give every tensor below a folder the numbers of its name; returns their shapes by file."""
    shapes = {}
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, "numpy") as file:
            found = {name: list(file.get_slice(name).get_shape()) for name in sorted(file.keys())}
        save_file({name: numbers(name, shape) for name, shape in found.items()}, path, {"format": "pt"})
        shapes[path.relative_to(folder).as_posix()] = found
    return shapes


def kept(name: str, make: Callable[[Path], dict[str, Any]], contents: list[str]) -> dict[str, Any]:
    """Files, shapes of tensors and answers of a checkpoint as the golden file has them.

    Args:
        name: of the checkpoint.
        make: writes it into a folder, and returns its answers.
        contents: of files, each once, to which those that are new are added.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, name)
        answers = make(folder)
        files = {}
        for path in sorted(each for each in folder.rglob("*") if each.suffix in (".json", ".jinja")):
            text = path.read_text("utf-8").replace(scratch, "/elsewhere")
            text = json.dumps(json.loads(text)) if path.suffix == ".json" else text
            contents += [] if text in contents else [text]
            files[path.relative_to(folder).as_posix()] = contents.index(text)
        return {"files": files, "tensors": draw(folder), "answers": answers}


def write(file: Path, content: dict[str, Any]) -> None:
    """Write a golden file."""
    file.write_text(json.dumps(_rounded(content)) + "\n", "utf-8")


def _rounded(value: Any) -> Any:
    """Numbers with the digits that float32 has."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 7) if isinstance(value, float) else value
