"""What is measured: models for the browser, and transformers.js with the same weights as optimum exports them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from conch_export import Options, Precision, export
from tokenizers import Tokenizer

from benchmarks import models as minilm
from benchmarks.true_sizes import checkpoint
from web import make

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PEER = make.ROOT / "benchmarks" / "browser" / "peer"
PRECISIONS = ("int8", "fp32")
JINA = "jina-small"
_TRANSFORMERS = "transformers.min.js"
_RUNTIME = ("ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
"""What this release of transformers.js runs on."""


@dataclass(frozen=True)
class Prepared:
    """Folders of what is measured.

    Attributes:
        repository: model repository with each model in both precisions, as `SHAPE-PRECISION`.
        web: what `conch web` wrote of it, with conch-web; the root of a web server.
        tokenizer_json: of all-MiniLM-L6-v2, whose vocabulary all shapes here have.
        exports: how each model was exported, by its name.
    """

    repository: Path
    web: Path
    tokenizer_json: Path
    exports: Mapping[str, Options]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """It neither pads nor truncates."""
        tokenizer = Tokenizer.from_file(str(self.tokenizer_json))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer


def prepare(folder: Path) -> Prepared:
    """Make what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    repository, web = folder / "repository", folder / "web"
    shapes = {"minilm": minilm.NAME, JINA: str(checkpoint.made(JINA, folder / JINA))}
    exports = {
        f"{shape}-{precision}": Options(
            reference, repository, name=f"{shape}-{precision}", precision=Precision(precision)
        )
        for shape, reference in shapes.items()
        for precision in PRECISIONS
    }
    for name, options in exports.items():
        if not (repository / name).exists():
            export(options)
    if not (web / "conch-web").exists():
        command = [sys.executable, "-m", "conch", "web", *exports, "--repository", repository, "--output", web]
        subprocess.run([str(word) for word in command], check=True)
        (web / "index.html").write_text("<!doctype html><title>a page</title>", encoding="utf-8")
    shutil.copytree(make.built(), web / "conch-web", dirs_exist_ok=True)
    if not (web / "transformers").exists():
        _add_peer(folder, web)
    return Prepared(repository, web, repository / "minilm-int8.tokenizer" / "1" / "tokenizer.json", exports)


def versions() -> dict[str, str]:
    """Return versions of what runs in the browser, and of the browser."""
    stated = json.loads((make.WEB / "package.json").read_text("utf-8"))["dependencies"]
    lock = json.loads((PEER / "package-lock.json").read_text("utf-8"))["packages"]
    peers = {f"transformers.js {name}": lock[f"node_modules/{path}"]["version"] for name, path in _PEERS.items()}
    chromium = subprocess.run(["chromium", "--version"], capture_output=True, text=True, check=True).stdout
    return {**stated, **peers, "chromium": chromium.split()[1]}


_PEERS = {"itself": "@huggingface/transformers", "onnxruntime-web": "onnxruntime-web"}


def _add_peer(folder: Path, web: Path) -> None:
    """Put transformers.js and its model beside ours."""
    installed = folder / "peer"
    installed.mkdir(exist_ok=True)
    for file in ("package.json", "package-lock.json"):
        shutil.copy(PEER / file, installed)
    make.npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=installed)
    models = minilm.prepare(folder)
    minilm.prepare_peers(models)
    onnx = web / "peer" / "minilm" / "onnx"
    onnx.mkdir(parents=True, exist_ok=True)
    for name, source in {"model": "fp32", "model_quantized": "plain-int8"}.items():
        shutil.copy(models.onnx / source / "model.onnx", onnx / f"{name}.onnx")
    for file in minilm.TOKENIZER_FILES:
        shutil.copy(models.checkpoint / file, onnx.parent)
    modules, place = installed / "node_modules", web / "transformers"
    place.mkdir()
    shutil.copy(modules / "@huggingface" / "transformers" / "dist" / _TRANSFORMERS, place)
    for file in _RUNTIME:
        shutil.copy(modules / "onnxruntime-web" / "dist" / file, place)
