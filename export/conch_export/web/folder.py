"""Writes models, and the module that loads them, into a folder that any web server or CDN can serve.

Graphs are copied from the repository. File names contain hashes, so files can be cached for ever. If gzip saves a
tenth, `FILE.gz` is written as well, which the gateway sends, and nginx with `gzip_static`.
"""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conch_contract import WEB_ENTRY, WEB_FORMAT, WEB_MANIFEST, WEB_MODULE, WebFile, stored_name

from conch_export.errors import ExportError, SourceError
from conch_export.progress import silent
from conch_export.sources.files import BLOCK_BYTES, file
from conch_export.triton.publish import staged
from conch_export.web.model import BrowserModel, GraphFiles, browser_model, facts
from conch_export.web.probes import probes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from conch_export.progress import Progress

MODULE = Path(__file__).with_name("module")
"""Folder of the built module, if this installation has it: `make web` writes it, and wheels of releases contain it."""
_WORTH = 0.9
"""Largest relative size at which a compressed file is kept. That of int8 weights is 0.91."""


@dataclass(frozen=True)
class Written:
    """A model that was written.

    Attributes:
        model: the model.
        files: its files besides the manifest, by name.
    """

    model: BrowserModel
    files: Mapping[str, WebFile]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(each.bytes for each in self.files.values())


def write_web(names: Sequence[str], repository: Path, output: Path, progress: Progress = silent) -> list[Written]:
    """Write models for the browser, all or none, and the module if this installation has it.

    Args:
        names: names of public models.
        repository: the model repository.
        output: folder to write; models of other names stay in it.
        progress: told the name of a model, its written bytes, and its total bytes.

    Raises:
        ExportError: nothing was written.
    """
    models = [browser_model(repository, name) for name in names]
    for name in (*names, WEB_MODULE):
        _refuse_others(output / name, WEB_ENTRY if name == WEB_MODULE else WEB_MANIFEST)
    with staged(output) as folder:
        written = [_write(model, folder / model.name, progress) for model in models]
        if has_module():
            _copy_module(folder / WEB_MODULE)
    return written


def has_module() -> bool:
    """Whether this installation has the built module."""
    return (MODULE / WEB_ENTRY).is_file()


def _refuse_others(place: Path, ours: str) -> None:
    """Refuse to replace a folder that was not written here, such as one of a model repository."""
    if place.exists() and not (place / ours).is_file():
        msg = f"{place} exists, and was not written by `conch web`: choose another --output"
        raise ExportError(msg)


def _write(model: BrowserModel, folder: Path, progress: Progress) -> Written:
    folder.mkdir()
    paths = [model.tokenizer, *(path for each in model.graphs for path in (each.graph, *each.weights.values()))]
    copies = _Copies(folder, lambda done: progress(model.name, done, sum(path.stat().st_size for path in paths)))
    tokenizer = copies.add(model.tokenizer, "tokenizer")
    (info, _), *_ = model.heads
    if copies.files[tokenizer].sha256 != info.tokenizer_sha256:
        msg = f"{model.tokenizer} is not the tokenizer that {model.name} was exported with: export it again"
        raise SourceError(msg)
    manifest = {
        "format": WEB_FORMAT,
        "name": model.name,
        "tokenizer": tokenizer,
        "encoder": copies.graph(model.encoder),
        "models": [facts(each) | {"head": head and copies.graph(head)} for each, head in model.heads],
        "files": {name: each._asdict() for name, each in copies.files.items()},
        "probes": probes(model.tokenizer),
    }
    path = folder / WEB_MANIFEST
    path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Written(model, copies.files)


class _Copies:
    """Copies files to names with their hashes, and verifies the copies."""

    def __init__(self, folder: Path, on_bytes: Callable[[int], None]) -> None:
        self._folder = folder
        self._on_bytes = on_bytes
        self.files: dict[str, WebFile] = {}

    def graph(self, graph: GraphFiles) -> dict[str, Any]:
        """Copy a graph and its weights; returns its entry in the manifest."""
        weights = {name: self.add(path, graph.role) for name, path in graph.weights.items()}
        return {"graph": self.add(graph.graph, graph.role), "data": weights}

    def add(self, source: Path, stem: str) -> str:
        """Copy a file; returns its name."""
        stated = file(source)
        name = stored_name(stem, source.suffix, stated.sha256)
        shutil.copyfile(source, self._folder / name)
        if file(self._folder / name) != stated:
            msg = f"{self._folder / name} is not what was written to it: the disk is failing"
            raise ExportError(msg)
        _compress(self._folder / name)
        self.files[name] = WebFile(stated.size, stated.sha256)
        self._on_bytes(sum(each.bytes for each in self.files.values()))
        return name


def _copy_module(folder: Path) -> None:
    folder.mkdir()
    for source in sorted(MODULE.iterdir()):
        shutil.copyfile(source, folder / source.name)
        _compress(folder / source.name)


def _compress(path: Path) -> None:
    """Write a compressed copy of a file, if it is enough smaller."""
    if path.suffix == ".data":
        return  # weights hardly shrink, and compressing them takes long
    short = path.with_name(f"{path.name}.gz")
    # Without name and time, equal content has equal bytes.
    with path.open("rb") as content, short.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        shutil.copyfileobj(content, packed, BLOCK_BYTES)
    if short.stat().st_size > _WORTH * path.stat().st_size:
        short.unlink()
