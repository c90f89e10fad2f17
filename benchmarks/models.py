"""The measured models, made once in an ignored folder: conch's exports, and those that users of onnxruntime make."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conch_contract import usable_cores
from conch_export import Options, Plan, Precision, export, is_complete, plan
from conch_export.sources.finder import resolve
from tokenizers import Tokenizer

from benchmarks import venvs
from benchmarks.workers import ENVIRONMENT

if TYPE_CHECKING:
    from pathlib import Path

NAME = "all-minilm-l6-v2"
# Of the encoder's linear layers: query, key, value and output are 4 x hidden², the two of the MLP 8 x hidden².
LAYERS, HIDDEN = 6, 384
OPERATIONS_PER_TOKEN = 2 * LAYERS * 12 * HIDDEN**2
ONNX_TIMEOUT_S = 600
TOKENIZER_FILES = (
    "config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
)  # fmt: skip


@dataclass(frozen=True)
class Models:
    """Where everything is.

    Attributes:
        int8: model repository as `conch export` makes it by default.
        fp32: the same in full precision.
        checkpoint: what all of them, and the peers', are made from.
        onnx: `fp32/` and `int8/` as optimum makes them, `plain-int8/` for infinity; empty folder names if not made.
    """

    int8: Path
    fp32: Path
    checkpoint: Path
    onnx: Path

    def graph(self, precision: str, part: str) -> Path:
        """A graph of conch's, such as `encoder`."""
        repository = self.int8 if precision == "int8" else self.fp32
        name = f"{NAME}-maxsim" if part == "maxsim" else NAME
        return repository / f"{name}.{part}" / "1" / "model.onnx"

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer; neither pads nor truncates."""
        tokenizer = Tokenizer.from_file(str(self.checkpoint / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer


def prepare(folder: Path) -> Models:
    """Export what is missing."""
    planned = plan(usable_cores())
    int8, fp32 = (
        _exported(folder / f"models-{precision.value}", precision, planned)
        for precision in (Precision.INT8, Precision.FP32)
    )
    return Models(int8, fp32, resolve(NAME).folder, folder / "onnx")


def prepare_peers(models: Models) -> None:
    """Make optimum's models with its own environment.

    Raises:
        InstallError: it cannot be installed.
        subprocess.SubprocessError: it failed.
    """
    if not (models.onnx / "sentence-transformers" / "model.onnx").exists():
        interpreter = venvs.python("onnxruntime")
        script = venvs.PEERS / "onnx_models.py"
        command = [str(interpreter), str(script), str(models.checkpoint), str(models.onnx)]
        subprocess.run(command, check=True, capture_output=True, timeout=ONNX_TIMEOUT_S, env=os.environ | ENVIRONMENT)
        _add_tokenizers(models)


def _add_tokenizers(models: Models) -> None:
    for name in ("plain-int8", "int8"):
        for file in TOKENIZER_FILES:
            shutil.copy(models.checkpoint / file, models.onnx / name / file)
    whole = models.onnx / "sentence-transformers"
    shutil.copytree(models.checkpoint, whole, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
    shutil.copy(models.onnx / "int8" / "model.onnx", whole / "model.onnx")


def _exported(repository: Path, precision: Precision, planned: Plan) -> Path:
    options = Options(NAME, repository, precision=precision, plan=planned)
    if not is_complete(options):
        export(options)
    return repository
