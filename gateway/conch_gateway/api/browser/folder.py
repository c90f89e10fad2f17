"""The folder that `conch web` wrote. Only files that a manifest lists, and those of the module, may be served.

Manifests are read again when they change, so models can be added and removed without a restart.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from conch_client import ModelNotFoundError
from conch_contract import WEB_ENTRY, WEB_MANIFEST, WEB_MODULE, DescriptionError, WebModel, read_web_model
from starlette.exceptions import HTTPException

from conch_gateway.errors import SettingError

TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".json": "application/json",
    ".txt": "text/plain",
    ".onnx": "application/octet-stream",
    ".data": "application/octet-stream",
}
"""Media types by suffix; the module's files have one of these."""
_log = logging.getLogger("conch_gateway")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OFF = "this gateway has no models for the browser; write them with `conch web`, and set CONCH_WEB_MODELS to the folder"


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that may be served.

    Attributes:
        path: path of the file, or of its compressed copy.
        stat: status of that path.
        media_type: media type of the content.
        etag: identifies the content and its encoding.
        lasting: whether the content under this name never changes.
        compressed: whether it is the copy that is compressed with gzip.
    """

    path: Path
    stat: os.stat_result
    media_type: str
    etag: str
    lasting: bool
    compressed: bool


class WebFolder:
    """The folder of models for the browser; None for no models.

    Raises:
        SettingError: the folder does not exist.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder is not None and not folder.is_dir():
            raise SettingError(f"CONCH_WEB_MODELS is {folder}, which is no folder; `conch web` writes one")
        self._folder = folder
        self._read: dict[Path, tuple[tuple[int, int], WebModel]] = {}

    @property
    def entry(self) -> str | None:
        """Path of the module below the folder; None if there is none."""
        if self._folder is None or not (self._folder / WEB_MODULE / WEB_ENTRY).is_file():
            return None
        return f"{WEB_MODULE}/{WEB_ENTRY}"

    def models(self) -> dict[str, WebModel]:
        """Return the current models by name."""
        if self._folder is None:
            return {}
        found: dict[str, WebModel] = {}
        for manifest in sorted(self._folder.glob(f"[!.]*/{WEB_MANIFEST}")):
            try:
                found[manifest.parent.name] = self._model(manifest)
            except (DescriptionError, OSError) as error:  # noqa: PERF203 - the other models can still be served
                _log.warning("a model for the browser is left out: %s", error)
        # Copied at once: other threads add to it.
        self._read = {path: read for path, read in list(self._read.items()) if path.parent.name in found}
        return found

    def file(self, model: str, name: str, *, compressed: bool) -> Stored:
        """Return one file of a model, or of the module.

        Args:
            model: folder of the model, or of the module.
            name: name of the file.
            compressed: whether to return a compressed copy, if there is one.

        Raises:
            ModelNotFoundError: there is no such model.
            HTTPException: 404, it has no such file.
        """
        if self._folder is None:
            raise ModelNotFoundError(_OFF)
        if model == WEB_MODULE:
            if not _NAME.fullmatch(name) or Path(name).suffix not in TYPES:
                raise HTTPException(404)
            return _stored(self._folder / WEB_MODULE / name, compressed=compressed)
        manifest = self._folder / model / WEB_MANIFEST
        if not _NAME.fullmatch(model) or not manifest.is_file():
            # The message does not list the models: which ones a caller may see depends on the key.
            raise ModelNotFoundError(f"no model {model!r} for the browser; GET /web lists those there are")
        if name == WEB_MANIFEST:
            return _stored(manifest, compressed=compressed)
        listed = self._model(manifest).files.get(name)
        if listed is None:
            raise HTTPException(404)
        return _stored(manifest.with_name(name), listed.sha256, compressed=compressed)

    def _model(self, manifest: Path) -> WebModel:
        now = manifest.stat()
        edition = (now.st_mtime_ns, now.st_ino)
        read = self._read.get(manifest)
        if read is None or read[0] != edition:
            read = self._read[manifest] = (edition, read_web_model(manifest))
        return read[1]


def _stored(path: Path, sha256: str | None = None, *, compressed: bool) -> Stored:
    short = path.with_name(f"{path.name}.gz")
    compressed = compressed and short.is_file()
    chosen = short if compressed else path
    try:
        stat = chosen.stat()
    except OSError as error:
        raise HTTPException(404) from error
    content = sha256 or f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
    etag = f'"{content}{"-gzip" if compressed else ""}"'
    return Stored(chosen, stat, TYPES[path.suffix], etag, lasting=sha256 is not None, compressed=compressed)
